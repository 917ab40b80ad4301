"""Images that are alike and no duplicates, as the report lists them: sets of one template, a few pairs of each."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from imagetools.grouping.connected import ConnectedImages

SHOWN_SETS: Final = 30
"""Sets that the page shows, the largest."""

SHOWN_PAIRS: Final = 3
"""Pairs of each set that the page shows: a hundred forms have thousands."""


@dataclass(frozen=True)
class AlikeSet:
    """Images that pairs of one relation connect.

    images  number of images
    count   number of pairs
    pairs   the first of them, each with its candidate
    """

    reason: str
    images: int
    count: int
    pairs: tuple[Mapping[str, Any], ...]


def alike_sets(similar: Sequence[Mapping[str, Any]]) -> list[AlikeSet]:
    """Return the sets, the largest first; `similar` as similar.jsonl holds it."""
    sets = []
    for relation in dict.fromkeys(str(one["relation"]) for one in similar):
        of_relation = [one for one in similar if one["relation"] == relation]
        groups = ConnectedImages((str(one["relative_path"]), str(one["candidate"])) for one in of_relation).sets
        number = {path: n for n, paths in enumerate(groups) for path in paths}
        pairs: dict[int, list[Mapping[str, Any]]] = {}
        for one in of_relation:
            pairs.setdefault(number[str(one["candidate"])], []).append(one)
        sets += [
            AlikeSet(_WORDS.get(relation, relation), len(paths), len(pairs[n]), tuple(pairs[n][:SHOWN_PAIRS]))
            for n, paths in enumerate(groups)
        ]
    return sorted(sets, key=lambda one: -one.images)


def paths_of(sets: Iterable[AlikeSet]) -> list[str]:
    """Return the images of the pairs that are shown, once each."""
    pairs = [pair for one in sets for pair in one.pairs]
    return list(dict.fromkeys(str(pair[name]) for pair in pairs for name in ("relative_path", "candidate")))


_WORDS: Final = {
    "template": "one template, other content",
    "moved": "one scene, in which something moved",
    "recoloured": "one picture in other colours",
    "blank": "nothing on them",
}
