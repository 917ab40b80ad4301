"""The verdicts that one run of `imagetools produce` waits for."""

from collections.abc import Iterator

from msgspec import Struct

from imagetools.paths import shown
from schemas.records import Duplicate, Duplicates, Verdict, VerdictOutcome
from streams.config import KafkaConfig
from streams.kafka.follower import Follower
from streams.topics import DUPLICATES, VERDICTS


class Found(Struct):
    """An image that the announced one duplicates."""

    relative_path: str
    score: float
    edit: str
    relation: str


class Alike(Struct):
    """An image that is alike and no duplicate."""

    relative_path: str
    relation: str
    reason: str


class ImageResult(Struct):
    """The result for one announcement."""

    relative_path: str
    request_id: int
    state: str
    duplicated: list[Found] = []
    reason: str = ""
    similar: list[Alike] = []

    def in_words(self) -> str:
        """Return one line of text."""
        name = shown(self.relative_path)
        if self.state == VerdictOutcome.DUPLICATE:
            return f"{name}  duplicates  {'; '.join(_in_words(one) for one in self.duplicated)}"
        words = "dead letter" if self.state == VerdictOutcome.DEAD_LETTER else self.state
        return f"{name}  {words}  {self.reason or self._alike()}".rstrip()

    def _alike(self) -> str:
        if not self.similar:
            return ""
        first, *others = self.similar
        more = f"; {len(others)} more" if others else ""
        return f"alike, and no duplicate: {shown(first.relative_path)}, {first.reason}{more}"


def _in_words(found: Found) -> str:
    return f"{shown(found.relative_path)}  {found.score:.2f}  {found.edit}".rstrip()


Key = tuple[int, str]


class PendingVerdicts:
    """Announcements of one run that have no verdict yet.

    expected  number of announcements
    dead      number that became dead letters
    """

    def __init__(self, kafka: KafkaConfig) -> None:
        self._follower = Follower(kafka, [VERDICTS, DUPLICATES], patient=True)
        self._open: set[Key] = set()
        self._verdicts: dict[Key, Verdict] = {}
        self._alerts: dict[Key, tuple[Duplicate, ...]] = {}
        self.expected = 0
        self.dead = 0

    @property
    def open(self) -> int:
        """Number without a verdict."""
        return len(self._open)

    def expect(self, request_id: int, path: str) -> None:
        """Add an announcement, before it is made."""
        self._open.add((request_id, path))
        self.expected += 1

    def read(self, timeout_s: float) -> Iterator[ImageResult]:
        """Yield new results; wait at most `timeout_s` for the first."""
        for seen in self._follower.read(timeout_s):
            match seen.record:
                case Verdict(request_id=int(number), relative_path=path) as verdict if (number, path) in self._open:
                    self._verdicts[number, path] = verdict
                case Duplicates(request_id=int(number), candidate=path) as alert if (number, path) in self._open:
                    self._alerts[number, path] = alert.duplicated
                case _:
                    continue
            if (decided := self._decided((number, path))) is not None:
                yield decided

    def close(self) -> None:
        """Close the connection."""
        self._follower.close()

    def _decided(self, key: Key) -> ImageResult | None:
        """Return the result if verdict and alert have both arrived; they may be read in either order."""
        verdict, found = self._verdicts.get(key), self._alerts.get(key, ())
        if verdict is None or (verdict.outcome is VerdictOutcome.DUPLICATE and not found):
            return None
        self._open.discard(key)
        del self._verdicts[key]
        self._alerts.pop(key, None)
        self.dead += verdict.outcome is VerdictOutcome.DEAD_LETTER
        return ImageResult(
            verdict.relative_path,
            key[0],
            verdict.outcome.value,
            [Found(one.relative_path, one.score, one.edit, one.relation) for one in found],
            verdict.reason,
            [Alike(one.relative_path, one.relation, one.reason) for one in verdict.similar],
        )
