"""Shards of the search stage: each holds the images whose paths hash to it, and searches for all."""

import hashlib
import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

MAX_SHARDS: Final = 256

_WRITTEN: Final = re.compile(r"(\d{1,3})/(\d{1,3})", re.ASCII)


@dataclass(frozen=True)
class Shard:
    """One of several shards.

    index  from 0 on
    count  of the shards
    """

    index: int = 0
    count: int = 1

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"

    @property
    def is_whole(self) -> bool:
        """Whether it is the only one, with all images."""
        return self.count == 1

    @property
    def name(self) -> str:
        """For names of groups and folders; empty for the only one."""
        return "" if self.is_whole else f"{self.index}-of-{self.count}"

    def holds(self, path: str) -> bool:
        """Whether the image belongs to this shard; the same on every machine and in every version."""
        return self.is_whole or shard_of(path, self.count) == self.index


def shard_of(path: str, count: int) -> int:
    """Return the index of the shard that holds an image: its path's BLAKE2b, eight bytes, modulo `count`."""
    digest = hashlib.blake2b(path.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") % count


def shards_named(group: str, names: Collection[str]) -> list[Shard]:
    """Return the shards among the names of groups; `group` is that of the only one."""
    found = [Shard()] if group in names else []
    for name in names:
        numbers = re.fullmatch(re.escape(group) + r"\.(\d{1,3})-of-(\d{1,3})", name, re.ASCII)
        if numbers is not None:
            found.append(Shard(int(numbers[1]), int(numbers[2])))
    return sorted(found, key=lambda shard: (shard.count, shard.index))


def parse_shard(text: str) -> Shard:
    """Read index and number, such as 0/4. ValueError."""
    found = _WRITTEN.fullmatch(text)
    if found is None:
        raise ValueError("index and number of the shards are needed, such as 0/4")
    shard = Shard(int(found[1]), int(found[2]))
    if not 1 <= shard.count <= MAX_SHARDS:
        raise ValueError(f"1 to {MAX_SHARDS} shards are possible")
    if shard.index >= shard.count:
        raise ValueError(f"the shards of {shard.count} are 0/{shard.count} to {shard.count - 1}/{shard.count}")
    return shard
