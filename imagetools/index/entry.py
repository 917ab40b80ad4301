"""One image of the index, as its callers see it."""

from dataclasses import dataclass
from typing import Final

DIGEST_BYTES: Final = 32


@dataclass(frozen=True, slots=True, order=True)
class Entry:
    """One image of the index.

    order      its place among all changes; a search always returns the earliest image of a node
    announced  when it was announced, milliseconds since 1970
    digest     SHA-256 of its bytes, empty where unknown
    source     which of several sources announced it; -1 where unknown
    """

    order: int
    relative_path: str
    announced: int = 0
    digest: bytes = b""
    source: int = -1

    def __post_init__(self) -> None:
        if self.digest and len(self.digest) != DIGEST_BYTES:
            raise ValueError(f"a digest of {len(self.digest)} bytes, not {DIGEST_BYTES}")
