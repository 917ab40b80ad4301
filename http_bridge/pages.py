"""The page, the page of the interface, the door, and their files: all from the package, nothing from a network."""

import hmac
from importlib.resources import files
from typing import Final
from urllib.parse import parse_qs

from aiohttp import web

from http_bridge.bodies import read_body
from http_bridge.security import COOKIE, as_bytes, session_of

KINDS: Final = {"html": "text/html", "js": "text/javascript", "css": "text/css", "svg": "image/svg+xml"}
DAY_S: Final = 24 * 60 * 60


def load() -> dict[str, bytes]:
    """Every file of the page by name; read once."""
    return {
        entry.name: entry.read_bytes()
        for entry in files("http_bridge.assets").iterdir()
        if entry.name.rpartition(".")[2] in KINDS
    }


class Pages:
    """Serves the files; `token` is what the door asks for."""

    def __init__(self, token: str | None) -> None:
        self._files = load()
        self._token = token

    def serve(self, name: str, status: int = 200) -> web.Response:
        """One file; HTTPNotFound."""
        data = self._files.get(name)
        if data is None:
            raise web.HTTPNotFound
        kind = KINDS[name.rpartition(".")[2]]
        keep = {"Cache-Control": "no-cache"}
        return web.Response(body=data, status=status, content_type=kind, charset="utf-8", headers=keep)

    async def home(self, _: web.Request) -> web.Response:
        """GET /."""
        return self.serve("index.html")

    async def docs(self, _: web.Request) -> web.Response:
        """GET /docs."""
        return self.serve("docs.html")

    async def asset(self, request: web.Request) -> web.Response:
        """GET /assets/{name}."""
        return self.serve(request.match_info["name"])

    async def door(self, _: web.Request) -> web.Response:
        """GET /sign-in."""
        return self.serve("sign-in.html")

    async def enter(self, request: web.Request) -> web.Response:
        """POST /sign-in: the token for a cookie."""
        form = parse_qs((await read_body(request, 4096)).decode("utf-8", "replace"))
        given = form.get("token", [""])[0]
        if self._token is None or not hmac.compare_digest(given.encode(), as_bytes(self._token)):
            return self.serve("sign-in-wrong.html", 401)
        response = web.Response(status=303, headers={"Location": "/"})
        secure = request.headers.get("X-Forwarded-Proto", request.scheme) == "https"
        response.set_cookie(
            COOKIE, session_of(self._token), max_age=30 * DAY_S, httponly=True, samesite="Strict", secure=secure
        )
        return response
