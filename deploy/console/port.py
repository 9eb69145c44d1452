"""What every role serves on its admin port: /metrics, /healthz, /readyz; the controller adds /admin/v1 and its /docs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib.metadata import version

from fastapi import APIRouter, FastAPI, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from deploy.web.errors import install

Ready = Callable[[], str | None]
"""None when the role can do its work, else one sentence on what it waits for."""


def admin_app(ready: Ready, routers: Sequence[APIRouter] = ()) -> FastAPI:
    """The app of one role's admin port; its errors have OpenAI's shape."""
    app = FastAPI(title="Trimtab", version=version("trimtab"), redoc_url=None)
    install(app)

    @app.get("/metrics", include_in_schema=False)
    def metrics() -> Response:
        return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)

    @app.get("/healthz", include_in_schema=False)
    async def healthz() -> dict[str, str]:
        return {"status": "ok"}

    @app.get("/readyz", include_in_schema=False)
    async def readyz(response: Response) -> dict[str, str]:
        waiting = ready()
        if waiting is not None:
            response.status_code = 503
        return {"status": "ready"} if waiting is None else {"status": "not ready", "reason": waiting}

    for router in routers:
        app.include_router(router)
    return app
