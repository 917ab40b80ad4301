"""candidates → duplicates, verdicts: verify each pair, and say what became of every image."""

import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import TypeVar

import cv2
from cachetools import LRUCache

from imagetools.decode import ImageRoot
from imagetools.errors import ImageError
from imagetools.matcher import Features, MatcherConfig, extract, verify
from schemas.records import Candidates, Duplicate, Duplicates, Neighbor, Verdict
from schemas.records import Outcome as Fate
from streams.config import Config
from streams.service import serve
from streams.stage import Outcome, Output, Received, Stage
from streams.topics import CANDIDATES, DUPLICATES, VERDICTS

T = TypeVar("T")
U = TypeVar("U")

CACHED_BYTES = 256 * 1024 * 1024
"""Of features that are kept: some 4,000 images at the default box, fewer at a larger one."""

Seen = Features | ImageError


class MatcherStage(Stage[Candidates]):
    """Verifies each candidate with its neighbors; a candidate that cannot be read becomes its ImageError, in place."""

    name = "matcher"
    source = CANDIDATES
    kind = Candidates

    def __init__(self, config: MatcherConfig, images: ImageRoot, workers: int) -> None:
        self._config = config
        self._images = images
        self._pool = ThreadPoolExecutor(workers, "match")
        self._cache: LRUCache[tuple[str, int, int], Features] = LRUCache(
            CACHED_BYTES, getsizeof=lambda features: features.nbytes
        )
        self._cache_lock = threading.Lock()
        # the pool is the parallelism: OpenCV's own threads inside it would only contend
        cv2.setNumThreads(1)

    def run(self, batch: Sequence[Received[Candidates]]) -> Sequence[Outcome]:
        """An alert where there are duplicates, and a verdict for every candidate."""
        asked = [received.record for received in batch if received.record is not None]
        seen = self._look_at(_to_compare(asked))
        pairs = [(record, n) for record in asked if _readable(seen, record.candidate) for n in record.neighbors]
        compared = self._map(lambda pair: self._compare(seen, *pair), pairs)
        duplicates: dict[int, list[Duplicate]] = {}
        for (record, _), duplicate in zip(pairs, compared, strict=True):
            if duplicate is not None:
                duplicates.setdefault(id(record), []).append(duplicate)
        return [self._conclude(record, seen, duplicates.get(id(record), [])) for record in asked]

    def close(self) -> None:
        """End the threads."""
        self._pool.shutdown()

    def _map(self, function: Callable[[T], U], items: Iterable[T]) -> list[U]:
        return list(self._pool.map(function, items))

    def _look_at(self, paths: list[str]) -> dict[str, Seen]:
        """The features of each image, or why it has none."""
        return dict(zip(paths, self._map(self._features, paths), strict=True))

    def _features(self, path: str) -> Seen:
        try:
            status = self._images.resolve(path).stat()
        except FileNotFoundError:
            status = None  # gone this moment: `open` says so in the words of all other cases
        except ImageError as exc:
            return exc
        key = (path, status.st_size, status.st_mtime_ns) if status else None
        with self._cache_lock:
            known = self._cache.get(key) if key else None
        if known is not None:
            return known
        try:
            features = extract(self._images.open(path, box=(self._config.width, self._config.height)), self._config)
        except ImageError as exc:
            return exc
        if key is not None and features.nbytes <= CACHED_BYTES:
            with self._cache_lock:
                self._cache[key] = features
        return features

    def _compare(self, seen: dict[str, Seen], record: Candidates, neighbor: Neighbor) -> Duplicate | None:
        if neighbor.identical:
            return Duplicate(
                neighbor.relative_path, 1.0, 0, 1.0, coverage_candidate=1.0, coverage_neighbor=1.0, edit="the same file"
            )
        ours, theirs = seen[record.candidate], seen[neighbor.relative_path]
        if isinstance(ours, ImageError) or isinstance(theirs, ImageError):
            return None
        found = verify(ours, theirs, self._config)
        if not found.duplicate:
            return None
        return Duplicate(
            neighbor.relative_path,
            found.score,
            found.inliers,
            found.agreement,
            found.mirrored,
            found.scale,
            found.angle,
            found.coverage_candidate,
            found.coverage_neighbor,
            found.edit,
            found.points,
        )

    def _conclude(self, record: Candidates, seen: dict[str, Seen], duplicates: list[Duplicate]) -> Outcome:
        unread = seen.get(record.candidate)
        if isinstance(unread, ImageError):
            return unread
        missing = {n.relative_path: seen.get(n.relative_path) for n in record.neighbors}
        errors = {path: error for path, error in missing.items() if isinstance(error, ImageError)}
        reason = "; ".join(f"neighbor left out: {error}" for error in errors.values())
        fate = Fate.DUPLICATE if duplicates else Fate.CLEAR
        outputs = [Output(VERDICTS, record.candidate, Verdict(record.request_id, record.candidate, fate, reason))]
        if duplicates:
            alert = Duplicates(
                record.request_id,
                record.candidate,
                tuple(sorted(duplicates, key=lambda d: -d.score)),
                record.model,
                self._config.threshold,
                datetime.now(UTC),
                tuple(errors),
            )
            outputs.append(Output(DUPLICATES, record.candidate, alert))
        return outputs


def _to_compare(records: Iterable[Candidates]) -> list[str]:
    """Every image whose features are needed, once. Identical files are duplicates without a look."""
    paths: dict[str, None] = {}
    for record in records:
        neighbors = [n.relative_path for n in record.neighbors if not n.identical]
        if neighbors:
            paths |= dict.fromkeys([record.candidate, *neighbors])
    return list(paths)


def _readable(seen: dict[str, Seen], candidate: str) -> bool:
    return not isinstance(seen.get(candidate), ImageError)


def make(config: Config) -> MatcherStage:
    """The stage, ready to run."""
    return MatcherStage(config.matcher, ImageRoot(config.images_dir), config.nb_workers)


def main(config: Config | None = None) -> None:
    """Run until SIGTERM or SIGINT."""
    serve(make, config)


if __name__ == "__main__":
    main()
