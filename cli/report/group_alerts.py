"""Group the images of a job's alerts, and say how far that is."""

from collections.abc import Callable, Iterable, Mapping

from cli.decisions import Decided
from cli.file_contents import FileContents
from cli.report.found_groups import group_pairs
from cli.slow_progress import SlowProgress
from imagetools.errors import ImageRootUnavailable
from imagetools.grouping.grouping import Grouping
from imagetools.grouping.records import Compare, Edge, ImageKey
from imagetools.grouping.relations import Relation
from schemas.records import Duplicates
from streams.grouping.pair_comparer import relation_of_duplicate


class StoppableComparer:
    """Compares pairs until a person stops it, and says how many it has compared; fits `Grouping`.

    skipped  pairs that were not compared since it was stopped; each counts as no duplicate, so that no file that was
             not looked at is called a copy
    """

    def __init__(self, compare: Compare, progress: SlowProgress, stopped: Callable[[], bool]) -> None:
        self.skipped = 0
        self._compared = 0
        self._compare = compare
        self._progress = progress
        self._stopped = stopped

    def __call__(self, left: ImageKey, right: ImageKey) -> Relation | None:
        """Return what left is to right, None where one cannot be read; nothing once it is stopped."""
        if self._stopped():
            self.skipped += 1
            return Relation.NONE
        self._progress.show(f"grouping: comparing pairs that no alert tells of, {self._compared:,} compared")
        self._compared += 1
        try:
            return self._compare(left, right)
        except ImageRootUnavailable:
            # the report says which files cannot be read
            return Relation.NONE


def group_alerts(
    alerts: Iterable[Duplicates],
    contents: FileContents,
    decided: Decided,
    places: Mapping[str, int],
    compare: Compare,
    progress: SlowProgress,
) -> Grouping:
    """Return the groups that alerts and decisions make, at the files' contents.

    places   order of the images
    compare  asked for pairs that no alert tells of
    """
    pairs = [(alert.candidate, d) for alert in alerts for d in alert.duplicated]
    paths = [path for candidate, d in pairs for path in (candidate, d.relative_path)]
    contents.read_all(
        [*paths, *decided.paths()],
        on_read=lambda done, count: progress.show(f"grouping: read {done:,} of {count:,} files"),
    )
    # the path identifies a file whose bytes cannot be read any more
    key = {path: ImageKey(path, contents.of(path) or path) for path in paths}
    edges = [Edge(key[candidate], key[d.relative_path], relation_of_duplicate(d), d.score) for candidate, d in pairs]
    return group_pairs(edges, decided.for_grouping(), places, compare)
