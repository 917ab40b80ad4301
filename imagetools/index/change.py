"""A batch of changes to the index, which sees itself at once and reaches the graph in one step."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from imagetools.errors import IndexMismatch
from imagetools.index.distance import Vector
from imagetools.index.entry import Entry
from imagetools.index.graph import Graph
from imagetools.index.search import Findings, Hit, search, search_codes
from imagetools.index.state import IndexState
from imagetools.index.view import View
from imagetools.local_codes import LocalCodes


class PutOutcome(StrEnum):
    """What became of an announcement.

    STALE      a newer one stands already
    UNCHANGED  the image stands there with the same bytes
    PLACED     the image is new, or has other bytes
    REMOVED    the image is gone
    """

    STALE = "stale"
    UNCHANGED = "unchanged"
    PLACED = "placed"
    REMOVED = "removed"


@dataclass(frozen=True, slots=True)
class PutResult:
    """What became of an announcement, and the neighbors of an image that was placed, if asked for."""

    outcome: PutOutcome
    found: Findings = Findings()

    @property
    def neighbors(self) -> Sequence[Hit]:
        """What was found, each image once."""
        return self.found.hits


class Change:
    """Changes to an index that see themselves at once: a search knows all that was added and removed before it.

    Nothing reaches the index until `apply`; a change that is dropped leaves no trace. One change at a time.
    """

    def __init__(self, state: IndexState, graph: Graph) -> None:
        """Use `Index.change`."""
        self._view = View(state, graph)

    def __len__(self) -> int:
        """Return how many images were added or removed."""
        return len(self._view)

    def entry(self, relative_path: str) -> Entry | None:
        """Return what is known of an image, None where it is not in the index."""
        placement = self._view.placement(relative_path)
        return None if placement is None else placement.entry

    def look_ahead(self, fingerprints: Sequence[Vector]) -> None:
        """Look for equal fingerprints of several images at once, on several cores, where they are about to be added.

        That changes nothing but the time. Those that do not belong in this index are passed over.
        """
        self._view.look_ahead(fingerprints)

    def put(
        self,
        entry: Entry,
        fingerprint: Vector | None,
        *,
        model: str = "",
        parts: Sequence[Vector] = (),
        codes: LocalCodes | None = None,
        nb_neighbors: int = 0,
        nb_local: int = 0,
    ) -> PutResult:
        """Apply one announcement of an image, and say what became of it.

        Rules, in order:
        1. Stale: another source announced the image later, so this announcement changes nothing. Announcements of
           one source come in their order, whatever their clocks say.
        2. Removed: there is no fingerprint, so the image is gone.
        3. Unchanged: the image stands there with the same bytes. It takes over the rest of the entry and the
           fingerprint, and keeps its place in the order.
        4. Placed: its former self leaves first, so that it is not its own neighbor; then its neighbors are searched
           for, and it is added.

        fingerprint   None: the image is gone
        codes         local codes of the image; None where unknown
        nb_neighbors  to search for when the image is placed; 0: none
        nb_local      to search for by local codes, too
        IndexMismatch for a fingerprint of another model or dimension, or one that is not finite; nothing is changed.
        """
        held = self.entry(entry.relative_path)
        if held is not None and held.source != entry.source and held.announced > entry.announced:
            return PutResult(PutOutcome.STALE)
        if fingerprint is None:
            self.remove(entry.relative_path)
            return PutResult(PutOutcome.REMOVED)
        if held is not None and held.digest == entry.digest:
            self.add(replace(entry, order=held.order), fingerprint, model=model, parts=parts, codes=codes)
            return PutResult(PutOutcome.UNCHANGED)
        self.check(fingerprint, model=model, parts=parts)
        self.remove(entry.relative_path)
        found = Findings()
        if nb_neighbors or nb_local:
            found = self.find(
                fingerprint, nb_neighbors, digest=entry.digest, parts=parts, codes=codes, nb_local=nb_local
            )
        self.add(entry, fingerprint, model=model, parts=parts, codes=codes)
        return PutResult(PutOutcome.PLACED, found)

    def search(
        self,
        fingerprint: Vector,
        nb_neighbors: int,
        *,
        digest: bytes = b"",
        parts: Sequence[Vector] = (),
        codes: LocalCodes | None = None,
        nb_local: int = 0,
    ) -> list[Hit]:
        """Find the nearest images, each once; see `find`."""
        return self.find(fingerprint, nb_neighbors, digest=digest, parts=parts, codes=codes, nb_local=nb_local).hits

    def find(
        self,
        fingerprint: Vector,
        nb_neighbors: int,
        *,
        digest: bytes = b"",
        parts: Sequence[Vector] = (),
        codes: LocalCodes | None = None,
        nb_local: int = 0,
    ) -> Findings:
        """Find the nearest images, best first; `nb_neighbors` counts distinct fingerprints.

        Images that are as near by a later frame of an animation come on top, at most NEIGHBORS_BY_PARTS; those
        that share local codes, at most `nb_local` distinct ones, are listed apart.
        digest  of the image searched for: hits with the same bytes are marked
        parts   fingerprints of its later frames; the nearest NEIGHBORS_BY_PARTS of each come on top, too
        IndexMismatch for a fingerprint of another dimension, or one that is not finite.
        """
        whole, *inside = (self._view.check(one) for one in (fingerprint, *parts))
        near = search(self._view, whole, nb_neighbors, digest=digest, parts=inside)
        if codes is None or not nb_local:
            return Findings(near)
        return Findings(near, search_codes(self._view, codes, nb_local, digest=digest))

    def note_model(self, model: str) -> None:
        """Take over the model of an image of the same log that another index holds, where none is known yet."""
        self._view.model = self._view.model or model or None

    def check(self, fingerprint: Vector, *, model: str = "", parts: Sequence[Vector] = ()) -> list[Vector]:
        """Return the fingerprint and those of the parts, each float32 (d,); IndexMismatch where `add` refuses them."""
        whole, *inside = vectors = [self._view.check(one) for one in (fingerprint, *parts)]
        if model and self._view.model not in (None, model):
            raise IndexMismatch(f"a fingerprint of the model {model}; this index holds those of {self._view.model}")
        for part in inside:
            if part.size != whole.size:
                raise IndexMismatch(f"a fingerprint of {whole.size} dimensions with a part of {part.size}")
        return vectors

    def add(
        self,
        entry: Entry,
        fingerprint: Vector,
        *,
        model: str = "",
        parts: Sequence[Vector] = (),
        codes: LocalCodes | None = None,
    ) -> None:
        """Add an image, or replace it; searches find it by its later frames, too.

        parts  fingerprints of its later frames, or in earlier records of pictures inside it
        codes  its local codes; None where unknown. Of images with equal fingerprints one's codes are kept.
        IndexMismatch for a fingerprint of another model or dimension, or one that is not finite.
        """
        whole, *inside = self.check(fingerprint, model=model, parts=parts)
        self._view.model = self._view.model or model or None
        self._view.remove(entry.relative_path)
        self._view.add(entry, whole, inside, codes)

    def remove(self, relative_path: str) -> None:
        """Forget an image; one that is not there is no error."""
        self._view.remove(relative_path)

    def apply(self) -> None:
        """Make the changes in the index; this object must not be used afterwards."""
        self._view.apply()
