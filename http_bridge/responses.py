"""JSON responses, and the contracts' envelope for errors."""

from typing import Any

import msgspec
from aiohttp import web

from http_bridge.errors import HttpError
from imagetools.paths import shown


def json_response(body: Any, status: int = 200) -> web.Response:
    """Respond with a body as JSON."""
    return web.Response(body=msgspec.json.encode(body), status=status, content_type="application/json")


def error_response(error: HttpError) -> web.Response:
    """Respond with an error in the contracts' envelope."""
    envelope = {"global_status": 0, "error_message": shown(error.reason), "response": {}}
    response = json_response(envelope, error.status)
    response.headers.update(error.headers)
    return response
