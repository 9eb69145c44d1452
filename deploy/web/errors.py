"""Errors in OpenAI's shape: `{"error": {"type", "code", "message", "param"}}`, so that OpenAI's clients understand them."""

from __future__ import annotations

from typing import Any

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from deploy.control.labelling import UnknownPair
from deploy.control.records import UnknownCandidate
from deploy.errors import Failed, Refused
from deploy.web.paths import astray
from feedback.masking import masked

log = structlog.get_logger()

_TYPES = {401: "authentication_error", 403: "permission_error", 404: "not_found_error", 429: "rate_limit_error"}
_HTTP_CODES = {404: "not_found", 405: "method_not_allowed"}
CLIENT_GONE = 499
"""Nobody reads this answer; it is for the metrics."""


class ApiError(Exception):
    """A request that is not answered as it was meant; the message tells the caller what to do."""

    def __init__(
        self, status: int, code: str, message: str, param: str | None = None, retry_after_s: int | None = None
    ) -> None:
        super().__init__(message)
        self.status, self.code, self.message, self.param = status, code, message, param
        self.retry_after_s = retry_after_s

    @property
    def body(self) -> dict[str, Any]:
        """The JSON object."""
        kind = _TYPES.get(self.status, "server_error" if self.status >= 500 else "invalid_request_error")
        return {"error": {"type": kind, "code": self.code, "message": masked(self.message), "param": self.param}}

    def response(self) -> JSONResponse:
        """The answer that says so."""
        headers = {"www-authenticate": "Bearer"} if self.status == 401 else {}
        if self.retry_after_s is not None:
            headers["retry-after"] = str(self.retry_after_s)
        return JSONResponse(self.body, self.status, headers)


def bad(message: str, param: str | None = None, code: str = "invalid_value") -> ApiError:
    """A 400 on the field `param`."""
    return ApiError(400, code, message, param)


def install(app: FastAPI) -> None:
    """Every error of `app` takes this shape: a rule's, those of its router, and those that nobody foresaw."""
    app.router.redirect_slashes = False  # nor does it send anybody elsewhere (deploy.web.requests passes over a slash)

    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        param = ".".join(str(part) for part in first["loc"][1:]) or None
        return bad(str(first["msg"]), param).response()

    @app.exception_handler(HTTPException)
    async def routed(request: Request, error: HTTPException) -> JSONResponse:
        code = _HTTP_CODES.get(error.status_code, "invalid_request")
        message, headers = astray(request, error)
        answer = ApiError(error.status_code, code, message).response()
        answer.headers.update(headers)
        return answer

    async def other(request: Request, error: Exception) -> JSONResponse:
        return answered(error, request.url.path)

    for kind in (ApiError, Failed, ClientDisconnect, Exception):
        app.exception_handler(kind)(other)


def answered(error: Exception, path: str) -> JSONResponse:
    """The answer to a request for `path` that an error ended; one that nobody foresaw is logged."""
    match error:
        case ApiError():
            return error.response()
        case Failed():
            return _not_done(error).response()
        case ClientDisconnect():
            return ApiError(CLIENT_GONE, "client_gone", "the client closed the connection").response()
    # no text of the error: it may quote what a user wrote
    log.error("request_failed", path=path[:100], error=type(error).__name__, at=place(error))
    return ApiError(500, "internal_error", "something went wrong here; this process's log says what").response()


def _not_done(error: Failed) -> ApiError:
    match error:
        case Refused():
            return ApiError(409, "refused", str(error))
        case UnknownCandidate() | UnknownPair():
            return ApiError(404, "not_found", str(error))
    return ApiError(503, "failed", str(error))


def place(error: BaseException) -> str:
    """Where it was raised, `module:line`, innermost last."""
    places, trace = [], error.__traceback__
    while trace is not None:
        places.append(f"{trace.tb_frame.f_globals.get('__name__', '?')}:{trace.tb_lineno}")
        trace = trace.tb_next
    return " > ".join(places[-4:])
