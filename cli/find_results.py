"""The results of `imagetools find` so far, and their totals."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from imagetools.paths import identity, one_file
from schemas.records import Duplicates, Similar, Verdict, VerdictOutcome
from streams.kafka.dead_letters import read_dead_letter
from streams.kafka.follower import ConsumedMessage
from streams.topics import CANDIDATES, DEAD_LETTERS, DUPLICATES, VERDICTS

MAX_KEPT_SIMILAR: Final = 10_000
"""Pairs that are alike and no duplicates that a job keeps; of more, only the number, so that they fit into memory."""


@dataclass
class FindResults:
    """All messages that one job has read, sorted by kind.

    verdicts       by path; at the end, one for each announced image
    similar        candidates, each with an image that is alike and no duplicate; at most MAX_KEPT_SIMILAR
    similar_count  number of all such pairs
    undecided      leaves out of an alert the pairs that a person called different
    denied         number of these pairs
    settled        candidates of whose alert nothing is left
    """

    announced: int
    verdicts: dict[str, Verdict] = field(default_factory=dict)
    similar: list[tuple[str, Similar]] = field(default_factory=list)
    similar_count: int = 0
    alerts: list[Duplicates] = field(default_factory=list)
    dead_letters: list[dict[str, str]] = field(default_factory=list)
    encoded: int = 0
    searched: int = 0
    dead_before_search: int = 0
    undecided: Callable[[Duplicates], Duplicates] = lambda alert: alert
    denied: int = 0
    settled: set[str] = field(default_factory=set)

    def take(self, seen: ConsumedMessage) -> None:
        """Count one message."""
        if seen.topic is VERDICTS:
            self._take_verdict(seen.record)
        elif seen.topic is DUPLICATES:
            self._take_alert(seen.record)
        elif seen.topic is CANDIDATES:
            self.searched += 1
        elif seen.topic is DEAD_LETTERS:
            letter = read_dead_letter(seen.message)
            self.dead_letters.append(letter)
            self.dead_before_search += letter["stage"] in ("encoder", "search")

    def _take_alert(self, alert: Duplicates) -> None:
        left = self.undecided(alert)
        self.denied += len(alert.duplicated) - len(left.duplicated)
        if left.duplicated:
            self.alerts.append(left)
        else:
            self.settled.add(alert.candidate)

    def _take_verdict(self, verdict: Verdict) -> None:
        path = verdict.relative_path
        self.verdicts[path] = replace(verdict, similar=())
        self.similar_count += len(verdict.similar)
        room = max(0, MAX_KEPT_SIMILAR - len(self.similar))
        self.similar += [(path, one) for one in verdict.similar[:room]]

    @property
    def done(self) -> bool:
        """Whether every announced image has its verdict."""
        return len(self.verdicts) >= self.announced

    @property
    def pairs(self) -> int:
        """Number of duplicate pairs."""
        return sum(len(alert.duplicated) for alert in self.alerts)


class Links:
    """Images of a folder that are one file under two names, by symbolic or hard links."""

    def __init__(self, folder: Path | None) -> None:
        """folder: None where images are in a store, which has no links."""
        self._folder = folder
        self._identities: dict[str, tuple[int, ...] | None] = {}

    def edit(self, one: str, two: str) -> str:
        """Return the text that replaces the edit if both are one file; empty if they are not."""
        if self._folder is None or self._identity(one) is None or self._identity(one) != self._identity(two):
            return ""
        how = one_file(self._folder / one, self._folder / two)
        return f"the same file, {how}" if how else ""

    def further(self, alerts: Sequence[Duplicates]) -> set[str]:
        """Return the images with an alert that are only another name of a file: for each file, all names but one."""
        candidates = dict.fromkeys(alert.candidate for alert in alerts)
        originals = (d.relative_path for alert in alerts for d in alert.duplicated)
        names: dict[tuple[int, ...], list[str]] = {}
        # a name that has no alert itself stands for the file
        for path in [*dict.fromkeys(path for path in originals if path not in candidates), *candidates]:
            own = self._identity(path)
            if own is not None:
                names.setdefault(own, []).append(path)
        return {path for paths in names.values() for path in paths[1:] if path in candidates}

    def _identity(self, path: str) -> tuple[int, ...] | None:
        if path not in self._identities:
            self._identities[path] = None if self._folder is None else identity(self._folder / path)
        return self._identities[path]


@dataclass(frozen=True)
class Totals:
    """The results in numbers.

    done        images with a verdict
    duplicates  images that are copies of earlier ones, without further names of one file
    pairs       pairs of copies; two names of one file are no pair
    same_file   images that are only another name of a file among the others
    alike       pairs that are alike and no duplicates
    denied      pairs that are not reported, since a person called them different
    """

    images: int
    done: int
    duplicates: int
    pairs: int
    same_file: int
    clear: int
    dead_letters: int
    alike: int
    denied: int


def totals(results: FindResults, links: Links) -> Totals:
    """Count the results."""
    outcomes = [verdict.outcome for verdict in results.verdicts.values()]
    further = links.further(results.alerts)
    settled = len(results.settled & results.verdicts.keys())
    linked = sum(bool(links.edit(a.candidate, d.relative_path)) for a in results.alerts for d in a.duplicated)
    return Totals(
        images=results.announced,
        done=len(results.verdicts),
        duplicates=outcomes.count(VerdictOutcome.DUPLICATE) - len(further) - settled,
        pairs=results.pairs - linked,
        same_file=len(further),
        clear=outcomes.count(VerdictOutcome.CLEAR) + settled,
        dead_letters=outcomes.count(VerdictOutcome.DEAD_LETTER),
        alike=results.similar_count,
        denied=results.denied,
    )
