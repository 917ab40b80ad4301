"""Parsers of settings: from text to a value, or ValueError with what is needed."""

import re
from collections.abc import Callable
from typing import Final
from urllib.parse import urlsplit

BROKER: Final = re.compile(r"(\w+://)?(\[[\da-fA-F:.]+\]|[^\s:,\[\]/]+)(:(?P<port>\d{1,5}))?", re.ASCII)
"""The address of one broker, as librdkafka takes it."""

MAX_SECONDS: Final = 600
MAX_NAME: Final = 200
"""Characters of a topic's prefix; Kafka takes names of up to 249."""


def whole(least: int, most: int) -> Callable[[str], int]:
    """A whole number from `least` to `most`."""

    def parse(text: str) -> int:
        try:
            number = int(text)
        except ValueError as exc:
            raise ValueError("a whole number is needed") from exc
        if number < least:
            raise ValueError(f"at least {least:,} is needed")
        if number > most:
            raise ValueError(f"at most {most:,} is possible")
        return number

    return parse


def one_of(*names: str) -> Callable[[str], str]:
    """One of these names, spelled exactly."""

    def parse(text: str) -> str:
        if text not in names:
            raise ValueError(f"it can be {', '.join(names)}")
        return text

    return parse


def some_of(*names: str) -> Callable[[str], tuple[str, ...]]:
    """One or more of these names, in any order, with commas between."""

    def parse(text: str) -> tuple[str, ...]:
        chosen = tuple(name.strip() for name in text.split(","))
        unknown = [name for name in chosen if name not in names]
        if unknown:
            raise ValueError(f"{unknown[0]!r} is not known; it can hold, with commas between: {', '.join(names)}")
        if len(set(chosen)) < len(chosen):
            raise ValueError(f"one is named twice; it can hold, with commas between: {', '.join(names)}")
        return chosen

    return parse


def yes_or_no(text: str) -> bool:
    """Yes or no; true and false, on and off, 1 and 0 are understood too."""
    known = {"yes": True, "true": True, "on": True, "1": True, "no": False, "false": False, "off": False, "0": False}
    if (answer := known.get(text.strip().lower())) is None:
        raise ValueError("yes or no is needed")
    return answer


def share(text: str) -> float:
    """A number from 0 to 1."""
    if not 0 <= (number := _decimal(text)) <= 1:
        raise ValueError("a number from 0 to 1 is needed")
    return number


def seconds(text: str) -> float:
    """A duration above 0, at most MAX_SECONDS."""
    if not 0 < (number := _decimal(text)) <= MAX_SECONDS:
        raise ValueError(f"seconds above 0, at most {MAX_SECONDS}")
    return number


def port(text: str) -> int:
    """A TCP port; 0 takes a free one."""
    try:
        return whole(0, 65535)(text)
    except ValueError as exc:
        raise ValueError("a port from 1 to 65535 is needed; 0 takes a free one") from exc


def brokers(text: str) -> str:
    """The addresses of brokers, host:port, several with commas."""
    for part in text.split(","):
        found = BROKER.fullmatch(part.strip())
        if found is None or not 1 <= int(found["port"] or 1) <= 65535:
            raise ValueError("host:port is needed, several with commas")
    return text


def web_addresses(text: str) -> str:
    """Addresses of HTTP servers, several with commas."""
    for address in text.split(","):
        parts = urlsplit(address.strip())
        if parts.scheme not in ("http", "https") or not parts.hostname or " " in parts.netloc:
            raise ValueError("an address is needed, such as http://registry:8081")
    return text


def topic_name(text: str) -> str:
    """A name that Kafka takes for a topic, or the beginning of one."""
    if not all(c.isascii() and (c.isalnum() or c in "._-") for c in text) or len(text) > MAX_NAME:
        raise ValueError(f"letters, digits, '.', '_' and '-' only, at most {MAX_NAME}")
    return text


def _decimal(text: str) -> float:
    try:
        return float(text)
    except ValueError as exc:
        raise ValueError("a number is needed") from exc
