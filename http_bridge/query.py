"""Reads the query of a URL; a parameter that is wrong, or not known, is refused by name."""

from collections.abc import Collection

from aiohttp import web

from http_bridge.errors import HttpError

MAX_CHARS = 4096


class Query:
    """The parameters of a request. HttpError 422."""

    def __init__(self, request: web.Request, known: Collection[str]) -> None:
        self._values = request.query
        for name in self._values:
            if name not in known:
                raise HttpError(422, f"{name[:100]}: there is no such parameter; there are {', '.join(known)}")
            if len(self._values.getall(name)) > 1:
                raise HttpError(422, f"{name}: it is given more than once")

    def text(self, name: str, most: int = MAX_CHARS) -> str:
        """Return a text of at most `most` characters; empty where it is not given."""
        text = self._values.get(name, "")
        if len(text) > most:
            raise HttpError(422, f"{name}: {len(text):,} characters, the limit is {most:,}")
        try:
            text.encode()
        except UnicodeEncodeError as exc:
            raise HttpError(422, f"{name}: it is not valid Unicode") from exc
        return text

    def choice(self, name: str, choices: Collection[str], default: str = "") -> str:
        """Return one of these words."""
        text = self._values.get(name)
        if text is None:
            return default
        if text not in choices:
            raise HttpError(422, f"{name}: one of {', '.join(choices)} is needed")
        return text

    def whole(self, name: str, default: int, least: int, most: int) -> int:
        """Return a whole number from `least` to `most`."""
        text = self._values.get(name, str(default))
        digits = text.removeprefix("-") if least < 0 else text
        if not (digits.isascii() and digits.isdigit() and len(digits) <= 19 and least <= int(text) <= most):
            raise HttpError(422, f"{name}: a whole number from {least:,} to {most:,} is needed")
        return int(text)

    def whole_if_given(self, name: str, least: int, most: int) -> int | None:
        """Return a whole number from `least` to `most`; None where it is not given."""
        return self.whole(name, least, least, most) if name in self._values else None

    def share(self, name: str) -> float:
        """Return a number from 0 to 1; 0 where it is not given."""
        text = self._values.get(name, "0")
        try:
            number = float(text)
        except ValueError:
            number = -1.0
        if not 0 <= number <= 1:
            raise HttpError(422, f"{name}: a number from 0 to 1 is needed")
        return number
