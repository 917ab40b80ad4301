"""The index's settings, in a module that loads no library: the command line shows their defaults."""

from dataclasses import dataclass, field
from typing import Final

from imagetools.hardware import usable_cores

MAX_PER_NODE: Final = 5
"""A search returns the earliest image of a node and at most four more: 5,000 copies of one image must not make 12.5
million pairs, and grouping by the earliest still joins them all."""

NEIGHBORS_BY_PARTS: Final = 3
"""At most this many nodes are returned for images that stand there by a part, and for each part of the image searched
for. In a collection of thousands one would do: the nearest node nearly always holds the picture that a part shows."""

SAME_NODE: Final = 1e-4
"""Cosine distance within which two fingerprints are one: bfloat16 and the batch size change the last bits."""

DISTANCE_TYPES: Final = ("Cosine", "Normalized Cosine", "Angle", "L1", "L2")

INDEX_ENGINES: Final = ("USearch", "NGT")
"""Libraries that find the nearest fingerprints. USearch knows no L1."""


@dataclass(frozen=True)
class IndexConfig:
    """How fingerprints are compared and the graph is searched.

    distance_type  one of DISTANCE_TYPES
    dimension      of a fingerprint; None takes that of the first one
    engine         one of INDEX_ENGINES; None: USearch, and NGT for L1
    expansion      how many of the nearest nodes USearch keeps in view while it explores
    epsilon        how far NGT explores beyond the nearest found; among 5,000 random vectors of 512 dimensions .1 finds
                   99.9 % of the true ten nearest and .2 all of them, at twice the time
    threads        for building the graph
    """

    distance_type: str = "Cosine"
    dimension: int | None = None
    engine: str | None = None
    expansion: int = 64
    epsilon: float = 0.2
    threads: int = field(default_factory=lambda: min(8, usable_cores()))

    def __post_init__(self) -> None:
        if self.distance_type not in DISTANCE_TYPES:
            raise ValueError(f"DISTANCE_TYPE is {self.distance_type!r}; it can be {', '.join(DISTANCE_TYPES)}")
        if self.engine not in (None, *INDEX_ENGINES):
            raise ValueError(f"INDEX_ENGINE is {self.engine!r}; it can be {', '.join(INDEX_ENGINES)}")
        if self.engine == "USearch" and self.distance_type == "L1":
            raise ValueError("INDEX_ENGINE is USearch, which does not know the DISTANCE_TYPE L1; NGT does")

    @property
    def graph_engine(self) -> str:
        """The engine to use: one of INDEX_ENGINES."""
        return self.engine or ("NGT" if self.distance_type == "L1" else "USearch")
