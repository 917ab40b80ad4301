"""candidates → duplicates, verdicts: verify each pair, and say what became of every image; and pairs asked about."""

import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

import cv2
from cachetools import LRUCache

from imagetools.decode import ORIGINAL_SIZE, ImageRoot, decode
from imagetools.errors import ImageError, MissingImage
from imagetools.features.extract import Features, extract
from imagetools.features.store import FeatureStore, state_of
from imagetools.hardware import usable_cores
from imagetools.matching.config import MatcherConfig
from imagetools.matching.verify import ImageOpener, Verification, verify
from imagetools.paths import shown
from schemas.records import (
    Candidates,
    Duplicate,
    Duplicates,
    MatchRequest,
    Neighbor,
    Reply,
    ReplyOutcome,
    Request,
    Verdict,
    VerdictOutcome,
)
from streams.config import Config
from streams.known_images import KnownImages
from streams.requests.protocol import reply_to
from streams.requests.scheduling import BatchSlicer, SliceScheduler
from streams.service import serve
from streams.stage import Outcome, Output, Received, Stage
from streams.topics import CANDIDATES, DUPLICATES, VERDICTS

T = TypeVar("T")
U = TypeVar("U")

CACHED_BYTES = 512 * 1024 * 1024
"""Of features that are kept: some 4,000 images at the default box, fewer at a larger one."""

HANDFUL = 8
"""Pairs that a thread takes at a time."""

Seen = Features | ImageError
Key = tuple[Path, str, str]
"""Root, path in it, and what tells the state of the file."""


class MatcherStage(Stage[Candidates]):
    """Verifies each candidate with its neighbors; a candidate that cannot be read becomes its ImageError, in place."""

    name = "matcher"
    source = CANDIDATES
    kind = Candidates
    # one with hundreds of neighbors holds up only itself
    answer_threads = 4
    reads_images = True

    def __init__(
        self,
        config: MatcherConfig,
        images: ImageRoot,
        workers: int,
        *,
        source: ImageRoot | None = None,
        target: ImageRoot | None = None,
        store: FeatureStore | None = None,
    ) -> None:
        """`source` and `target` are the roots of requests' candidates and neighbors; by default that of the stream.

        store  keeps features when the stage ends, and those that memory has no room for; the stage closes it
        """
        self._config = config
        self._images = images
        self._known = KnownImages(images)
        self._source = source or images
        self._target = target or images
        self._workers = workers
        self._pool = ThreadPoolExecutor(workers, "match")
        # as many threads as are wanted may wait for files; more at work than cores would only contend
        self._computing = min(workers, usable_cores())
        self._cores = threading.BoundedSemaphore(self._computing)
        self._comparers = ThreadPoolExecutor(self._computing, "compare")
        # OpenCV and the threads take any number of images at a time
        self._scheduler = SliceScheduler(exclusive=False)
        self._extracting = BatchSlicer(self._scheduler, 8 * workers)
        self._comparing = BatchSlicer(self._scheduler, 64 * workers)
        self._cache: LRUCache[Key, Features] = LRUCache(CACHED_BYTES, getsizeof=lambda features: features.nbytes)
        self._cache_lock = threading.Lock()
        self._store = store
        # the pool is the parallelism: OpenCV's own threads inside it would only contend
        cv2.setNumThreads(1)

    def run(self, batch: Sequence[Received[Candidates]]) -> Sequence[Outcome]:
        """An alert where there are duplicates, and a verdict for every candidate."""
        asked = [received.record for received in batch if received.record is not None]
        seen = self._look_at(_to_compare(asked))
        pairs = [(record, n) for record in asked if _readable(seen, record.candidate) for n in record.neighbors]
        compared = self._comparing.map(lambda piece: self._compare_all(seen, piece), pairs)
        found: dict[int, dict[str, Duplicate | ImageError]] = {}
        for (record, neighbor), one in zip(pairs, compared, strict=True):
            if one is not None:
                found.setdefault(id(record), {})[neighbor.relative_path] = one
        return [self._conclude(record, seen, found.get(id(record), {})) for record in asked]

    def answer(self, requests: Sequence[Request]) -> Sequence[Reply]:
        """Which neighbors show each candidate's picture; one that cannot be read is left out and named."""
        return [self._answer(request) for request in requests if isinstance(request, MatchRequest)]

    def inputs_away(self) -> str | None:
        """Why the folder of images is away or another one; None where images that were read before are there."""
        return self._known.away()

    def close(self) -> None:
        """End the threads."""
        self._pool.shutdown()
        self._comparers.shutdown()
        if self._store is not None:
            self._store.close()

    def _map(self, function: Callable[[T], U], items: Iterable[T]) -> list[U]:
        return list(self._pool.map(function, items))

    def _look_at(self, paths: list[str]) -> dict[str, Seen]:
        """The features of each image, or why it has none."""
        found = self._extracting.map(
            lambda piece: self._map(lambda path: self._features(self._images, path), piece), paths
        )
        return dict(zip(paths, found, strict=True))

    def _features(self, root: ImageRoot, path: str) -> Seen:
        # only a path that `read` has found to be inside the root is kept, so that it is not resolved again here
        state = state_of(root.folder, path)
        if state is None:
            # `read` says what is wrong
            return self._computed(root, path)
        key = root.folder, path, state
        with self._cache_lock:
            known = self._cache.get(key)
        if known is not None:
            return known
        features: Features | None = None
        if self._store is not None:
            # more threads at it would hand the interpreter to each other more than they read
            with self._cores:
                features = self._store.get(*key)
        if features is None:
            computed = self._computed(root, path)
            # of a file that has changed while it was read nobody knows which state was seen
            if isinstance(computed, ImageError) or state_of(root.folder, path) != state:
                return computed
            features = computed
            if self._store is not None:
                self._store.put(*key, features)
        if features.nbytes <= CACHED_BYTES:
            with self._cache_lock:
                self._cache[key] = features
        return features

    def _computed(self, root: ImageRoot, path: str) -> Seen:
        try:
            data = root.read(path)
            if root is self._images:
                self._known.note(path)
            with self._cores:
                return extract(decode(data, shown(path), box=self._box, config=root.config), self._config)
        except ImageError as exc:
            return exc

    def _compare_all(
        self, seen: dict[str, Seen], pairs: Sequence[tuple[Candidates, Neighbor]]
    ) -> list[Duplicate | ImageError | None]:
        # one by one, handing a pair to a thread would cost a tenth of what most pairs do
        size = max(1, min(HANDFUL, len(pairs) // self._computing))
        handfuls = [pairs[start : start + size] for start in range(0, len(pairs), size)]
        done = self._comparers.map(lambda some: [self._compare(seen, *pair) for pair in some], handfuls)
        return [one for handful in done for one in handful]

    def _compare(self, seen: dict[str, Seen], record: Candidates, neighbor: Neighbor) -> Duplicate | ImageError | None:
        if neighbor.identical:
            return Duplicate(
                neighbor.relative_path, 1.0, 0, 1.0, coverage_candidate=1.0, coverage_neighbor=1.0, edit="the same file"
            )
        ours, theirs = seen[record.candidate], seen[neighbor.relative_path]
        if isinstance(ours, ImageError) or isinstance(theirs, ImageError):
            return None
        looks = self._look(self._images, record.candidate), self._look(self._images, neighbor.relative_path)
        return self._checked(neighbor.relative_path, ours, theirs, looks)

    def _look(self, root: ImageRoot, path: str) -> ImageOpener:
        return lambda box: root.open(path, box=box)

    def _checked(
        self, path: str, candidate: Features, neighbor: Features, looks: tuple[ImageOpener, ImageOpener]
    ) -> Duplicate | ImageError | None:
        """The pair's verdict, or why one of two drawn pictures, whose features are known, cannot be opened again."""
        try:
            return _duplicate(path, verify(candidate, neighbor, self._config, looks))
        except ImageError as exc:
            return exc

    @property
    def _box(self) -> tuple[int, int]:
        return self._config.width, self._config.height

    def _answer(self, request: MatchRequest) -> Reply:
        with self._scheduler.request():
            candidate = self._candidate(request)
        if isinstance(candidate, ImageError):
            outcome = ReplyOutcome.MISSING if isinstance(candidate, MissingImage) else ReplyOutcome.REFUSED
            return reply_to(request, outcome, str(candidate))
        root, look = self._target, self._look(self._source, request.candidate)
        if (image := request.image) is not None:
            root, look = self._images, lambda box: decode(image, "the image", box=box, config=self._images.config)
        paths = list(dict.fromkeys(request.neighbors))
        seen: list[Duplicate | ImageError | None] = []
        while len(seen) < len(paths):
            piece = paths[len(seen) : len(seen) + self._workers]
            with self._scheduler.request():
                seen += self._map(lambda path: self._verified(candidate, look, root, path), piece)
        errors = [one for one in seen if isinstance(one, ImageError)]
        duplicates = [one for one in seen if isinstance(one, Duplicate)]
        return reply_to(
            request,
            error_message="; ".join(f"neighbor left out: {error}" for error in errors),
            duplicated=tuple(sorted(duplicates, key=lambda d: -d.score)),
        )

    def _candidate(self, request: MatchRequest) -> Seen:
        if request.image is None:
            return self._features(self._source, request.candidate)
        try:
            image = decode(request.image, "the image", box=self._box, config=self._images.config)
            if request.original_width > 0 and request.original_height > 0:
                image.info[ORIGINAL_SIZE] = request.original_width, request.original_height
            return extract(image, self._config)
        except ImageError as exc:
            return exc

    def _verified(
        self, candidate: Features, look: ImageOpener, root: ImageRoot, path: str
    ) -> Duplicate | ImageError | None:
        features = self._features(root, path)
        if isinstance(features, ImageError):
            return features
        return self._checked(path, candidate, features, (look, self._look(root, path)))

    def _conclude(
        self, record: Candidates, seen: dict[str, Seen], compared: dict[str, Duplicate | ImageError]
    ) -> Outcome:
        unread = seen.get(record.candidate)
        if isinstance(unread, ImageError):
            return unread
        duplicates = [one for one in compared.values() if isinstance(one, Duplicate)]
        missing = {n.relative_path: seen.get(n.relative_path) for n in record.neighbors} | compared
        errors = {path: error for path, error in missing.items() if isinstance(error, ImageError)}
        reason = "; ".join(f"neighbor left out: {error}" for error in errors.values())
        fate = VerdictOutcome.DUPLICATE if duplicates else VerdictOutcome.CLEAR
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


def _duplicate(relative_path: str, found: Verification) -> Duplicate | None:
    if not found.duplicate:
        return None
    return Duplicate(
        relative_path,
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


def _readable(seen: dict[str, Seen], candidate: str) -> bool:
    return not isinstance(seen.get(candidate), ImageError)


def make(config: Config) -> MatcherStage:
    """The stage, ready to run; ConfigError where FEATURES_DIR cannot be used."""
    images, source, target = (ImageRoot(folder) for folder in (config.images_dir, config.source_dir, config.target_dir))
    folder, limit = config.features_dir, config.features_mb * 10**6
    store = None if folder is None else FeatureStore(folder, limit, config.matcher)
    return MatcherStage(config.matcher, images, config.nb_workers, source=source, target=target, store=store)


def main(config: Config | None = None) -> None:
    """Run until SIGTERM or SIGINT."""
    serve(MatcherStage, make, config)


if __name__ == "__main__":
    main()
