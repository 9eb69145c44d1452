"""What every role serves on its admin port: /metrics, /healthz, /readyz; the controller adds /admin/v1 and its /docs.

/docs is a page of our own that runs nothing: FastAPI's loads its scripts from another site, into a page that may do on this port
whatever somebody on this machine may.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.metadata import version

from fastapi import APIRouter, FastAPI, Response
from fastapi.responses import HTMLResponse
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from deploy.console.docs import POLICY, page
from deploy.web.errors import install
from deploy.web.health import Health, Ready, health_router

MAX_BODY_BYTES = 100_000
"""The longest reason twenty times over."""


def admin_app(ready: Ready, routers: Sequence[APIRouter] = (), duties: Mapping[str, Ready] | None = None) -> FastAPI:
    """The app of one role's admin port, with its duties by name; its errors have OpenAI's shape."""
    app = FastAPI(title="Trimtab", version=version("trimtab"), docs_url=None, redoc_url=None)
    install(app)

    @app.get("/metrics", include_in_schema=False)
    def metrics() -> Response:
        return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)

    @app.get("/docs", include_in_schema=False)
    def docs() -> Response:
        return HTMLResponse(page(app.openapi()), headers={"content-security-policy": POLICY, "x-frame-options": "DENY"})

    health = Health(ready, duties if duties is not None else {})
    for router in (health_router(health, say_why=True), *routers):
        app.include_router(router)
    return app
