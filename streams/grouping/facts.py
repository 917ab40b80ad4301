"""The facts of the grouping stage: their keys, and the records of images and pairs."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

from imagetools.grouping.records import Edge, ImageKey
from imagetools.grouping.relations import Relation
from schemas.group_records import FactKind, GroupingFact, SeenFile
from streams.grouping.pair_marks import PairMarks
from streams.standing_decisions import Pair, content_of

GONE = "g"
"""Kind in the key of the fact that an image with pairs is gone."""


@dataclass(frozen=True, slots=True)
class KnownImage:
    """The image that a path has now.

    place      in the order of the embeddings log
    announced  timestamp of its embedding, milliseconds since 1970
    source     the partition of images.new that held its announcement; -1: not known
    silent     whether it came silently at these bytes; None: not known
    """

    key: ImageKey
    place: int
    announced: int
    source: int
    silent: bool | None = None


def fact_id(kind: str, *parts: str) -> str:
    """Return the key of a fact that is not about one path: a path with a zero byte names no file."""
    digest = hashlib.sha256("\0".join(parts).encode()).hexdigest()
    return f"\0{kind}{digest}"


def edge_id(pair: Pair) -> str:
    """Return the key of the fact that a pair was alerted."""
    return fact_id("e", *pair[0], *pair[1])


def answer_id(pair: Pair) -> str:
    """Return the key of the fact that a pair was compared."""
    return fact_id("a", *pair[0], *pair[1])


def image_fact(known: KnownImage, look: SeenFile | None, metadata: Mapping[str, str]) -> GroupingFact:
    """Return the fact that a path has an image."""
    return GroupingFact(
        known.key.path, FactKind.IMAGE, (content_of(known.key),), known.place, known.announced, known.source,
        look=look, metadata=metadata, silent=known.silent,
    )  # fmt: skip


def edge_fact(pair: Pair, edge: Edge, marks: PairMarks) -> GroupingFact:
    """Return the fact that a pair was alerted."""
    images = content_of(pair[0]), content_of(pair[1])
    return GroupingFact(
        edge_id(pair), FactKind.EDGE, images, relation=edge.relation, score=edge.score, framed=marks.framed,
        covered=marks.covered,
    )  # fmt: skip


def answer_fact(pair: Pair, relation: Relation) -> GroupingFact:
    """Return the fact that a pair was compared."""
    return GroupingFact(answer_id(pair), FactKind.ANSWER, (content_of(pair[0]), content_of(pair[1])), relation=relation)


def gone_fact(key: str, image: ImageKey, since: int) -> GroupingFact:
    """Return the fact that an image with pairs is gone; since: milliseconds since 1970."""
    return GroupingFact(key, FactKind.GONE, (content_of(image),), announced=since)
