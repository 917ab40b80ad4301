"""Names of the places where images are: folders, and addresses of stores."""

from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

STORES: Final = ("s3", "gs", "az")
"""Schemes of stores of objects."""

WEB: Final = ("https", "http")


def parse_place(text: str) -> Path | str:
    """Return a folder, or the address of a store without a slash at its end. ValueError says what is wrong with it."""
    scheme, mark, rest = text.partition("://")
    if not mark:
        return Path(text)
    if scheme not in STORES + WEB:
        raise ValueError(f"{scheme}:// is not known; a folder, {', '.join(f'{one}://' for one in STORES + WEB)} are")
    # a '#' or '?' in it would silently name another place
    parts = urlsplit(text)
    if parts.query or parts.fragment or "?" in rest or "#" in rest:
        raise ValueError("an address of images has neither '?' nor '#' in it")
    if "@" in parts.netloc:
        raise ValueError("credentials do not belong in the address: they would be in every log")
    if not parts.netloc:
        raise ValueError(f"{scheme}:// is followed by the name of a {'server' if scheme in WEB else 'bucket'}")
    if any(part in (".", "..") for part in parts.path.split("/")):
        raise ValueError("'.' and '..' are no parts of an address")
    return text.rstrip("/")


def is_address(place: Path | str) -> bool:
    """Return whether a place is a store or a web server, not a folder."""
    return isinstance(place, str) and "://" in place
