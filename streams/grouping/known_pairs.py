"""What the grouping stage knows of pairs, beside the verdicts on them, and for how long."""

from collections.abc import Callable, Collection, Iterator, Set
from typing import Final

from imagetools.grouping.grouping import Grouping
from imagetools.grouping.records import ImageKey
from imagetools.grouping.relations import Relation
from schemas.group_records import GroupingFact
from streams.grouping.facts import answer_id, edge_id
from streams.grouping.gone_images import GoneImages, now_ms
from streams.grouping.pair_marks import PLAIN, KnownMarks
from streams.standing_decisions import Pair

IMAGES_A_STEP: Final = 10_000
"""That are looked at in one step of a restore."""


class KnownPairs:
    """What alerts and comparisons say of pairs; forgets them some time after one of their images is gone.

    marks    what alerts say of the quality of pictures
    answers  what comparisons say
    """

    def __init__(self, grouping: Grouping, is_there: Callable[[ImageKey], bool]) -> None:
        """Know nothing yet.

        grouping  has the verdicts
        is_there  says whether a path has these bytes now
        """
        self.marks = KnownMarks()
        self.answers: dict[Pair, Relation] = {}
        self._grouping = grouping
        self._is_there = is_there
        self._gone = GoneImages()

    def settle(self, touched: Collection[ImageKey]) -> dict[str, GroupingFact | None]:
        """Note which images are gone, and forget the pairs of those that have been gone for long.

        touched  images that came or went in a batch, or have pairs that did
        Returns the facts that have changed, by key; None: one that holds no more.
        """
        now = now_ms()
        # before anything is noted, so that the log has a fact before its end
        due = {key: image for key, image in self._gone.due(now).items() if image not in touched}
        facts = self._gone.update(touched, self._is_gone, now)
        for pair in self._forget(set(due.values())):
            facts |= {edge_id(pair): None, answer_id(pair): None}
        for key in due:
            # behind the pairs: a reader of the log forgets them where this ends
            self._gone.end(key)
            facts[key] = None
        return facts

    def load_gone(self, key: str, image: ImageKey, since: int) -> None:
        """Take the fact that an image is gone."""
        self._gone.load(key, image, since)

    def load_end(self, key: str) -> None:
        """Take the end of such a fact: the image is back, or its pairs are forgotten."""
        image = self._gone.end(key)
        if image is not None and not self._is_there(image):
            self._forget({image})

    def loaded(self) -> Iterator[None]:
        """Note which images are gone that were no facts yet, in small steps."""
        now = now_ms()
        for number, image in enumerate(self._grouping.gone_with_pairs(), 1):
            if image not in self._gone:
                self._gone.note(image, now)
            if number % IMAGES_A_STEP == 0:
                yield

    def _is_gone(self, image: ImageKey) -> bool:
        """Return whether an image is gone and has pairs; forget one that has none."""
        if self._is_there(image):
            return False
        return self._grouping.has_pairs(image) or bool(self._grouping.forget_pairs(image))

    def _forget(self, images: Set[ImageKey]) -> set[Pair]:
        """Forget what is known of the pairs of images that are gone, but for decisions; return the pairs."""
        if not images:
            return set()
        pairs = {(min(one, two), max(one, two)) for one in images for two in self._grouping.forget_pairs(one)}
        pairs |= {pair for pair in self.answers if not images.isdisjoint(pair)}
        for pair in pairs:
            self.marks.put(pair, PLAIN)
            self.answers.pop(pair, None)
        return pairs
