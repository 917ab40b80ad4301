"""Traces of HTTP requests."""

from aiohttp import web
from aiohttp.typedefs import Middleware

from http_bridge.contracts import CONTRACTS
from http_bridge.errors import as_http_error
from http_bridge.security import Handler
from streams.traces.base import Traces

API = "/v1/"
STREAM = "/v1/duplicates/stream"
"""Open for hours, and so no request that a trace could show."""


def request_traces(traces: Traces) -> Middleware:
    """Make the middleware that traces the contracts and the API; it comes after access control.

    So only those who may send requests can have traces made of them.
    """

    @web.middleware
    async def trace(request: web.Request, handler: Handler) -> web.StreamResponse:
        resource = request.match_info.route.resource
        route = resource.canonical if resource is not None else ""
        contract = route in CONTRACTS or (route == "/" and request.method == "POST")
        if not contract and (not route.startswith(API) or route == STREAM):
            return await handler(request)
        with traces.serving(request.method, route, request.path, request.headers) as answered:
            try:
                response = await handler(request)
            except Exception as exc:
                answered(_status_of(exc))
                raise
            answered(response.status)
            return response

    return trace


def _status_of(exc: Exception) -> int:
    if isinstance(exc, web.HTTPException):
        return exc.status
    error = as_http_error(exc)
    return 500 if error is None else error.status
