"""candidates → duplicates, verdicts: verify each pair, and give a verdict on every image; answer requests for pairs.

A pair that a person called no duplicate, at the bytes that search found, is in no alert.
"""

from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime

import cv2

from imagetools.errors import ImageError, MissingImage
from imagetools.features.cache import MAX_BYTES, FeatureCache
from imagetools.features.extract import Features
from imagetools.features.read import read_features
from imagetools.features.store import FeatureStore
from imagetools.hardware import usable_cores
from imagetools.image_root import ImageRoot
from imagetools.matching.config import MatcherConfig
from imagetools.matching.verify import ImageOpener, verify
from imagetools.opener import FileOpener, KeptFrames
from schemas.neighbor_records import Neighbor
from schemas.records import (
    Candidates,
    Duplicate,
    Duplicates,
    MatchRequest,
    Reply,
    ReplyOutcome,
    Request,
    Similar,
    Verdict,
    VerdictOutcome,
)
from streams.config import Config, KafkaConfig
from streams.decisions_log import DecisionsLog
from streams.feature_store import cache_figures, open_store
from streams.joining_stage import JoiningStage
from streams.known_images import KnownImages
from streams.pair_evidence import (
    duplicates_among,
    evidence_of,
    identical,
    left_out,
    not_denied,
    paths_to_compare,
    similar_among,
    with_contents,
)
from streams.requests.protocol import reply_to
from streams.requests.scheduling import BatchSlicer, SliceScheduler
from streams.service import serve
from streams.stage import Figure, Outcome, Output
from streams.standing_decisions import StandingDecisions
from streams.topics import DUPLICATES, VERDICTS

MAX_CACHED_BYTES = MAX_BYTES

HANDFUL = 8
"""Pairs that a thread takes at a time."""

FeaturesOrError = Features | ImageError

Comparison = Duplicate | Similar | ImageError | None
"""A pair's evidence; why one of its pictures cannot be opened again; or None: nothing to put on record."""


class MatcherStage(JoiningStage):
    """Verifies each candidate with its neighbors; the outcome of one that cannot be read is its ImageError."""

    name = "matcher"
    # so that a request with hundreds of neighbors holds up no other
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
        decisions: DecisionsLog | None = None,
        kafka: KafkaConfig | None = None,
    ) -> None:
        """Prepare the threads and the cache of features.

        source     root of requests' candidates; by default that of the stream
        target     root of requests' neighbors; the same
        store      keeps features beyond memory and beyond this process; the stage closes it
        decisions  what people have decided: no alert names a pair that someone called no duplicate; the stage closes it
        kafka      where answers of shards are read again that were held; None: the default
        """
        super().__init__(kafka or KafkaConfig())
        self._decisions = decisions
        self._config = config
        self._images = images
        self._known = KnownImages(images)
        self._source = source or images
        self._target = target or images
        self._workers = workers
        self._pool = ThreadPoolExecutor(workers, "match")
        # any number of threads may wait for files; more that compute than there are cores would only contend
        self._computing = min(workers, usable_cores())
        self._comparers = ThreadPoolExecutor(self._computing, "compare")
        # OpenCV and the threads take any number of images at a time
        self._scheduler = SliceScheduler(exclusive=False)
        self._extracting = BatchSlicer(self._scheduler, 8 * workers)
        self._comparing = BatchSlicer(self._scheduler, 64 * workers)
        self._cache = FeatureCache(
            config, store=store, max_bytes=MAX_CACHED_BYTES, max_computing=self._computing, on_read=self._note
        )
        # the pool is the parallelism: OpenCV's own threads inside it would only contend
        cv2.setNumThreads(1)

    def conclude(self, records: Sequence[Candidates]) -> Sequence[Outcome]:
        """Return an alert where there are duplicates, and a verdict for every candidate."""
        features = self._all_features(paths_to_compare(records))
        pairs = [
            (record, neighbor)
            for record in records
            if not isinstance(features.get(record.candidate), ImageError)
            for neighbor in record.neighbors
        ]
        # shared, so that the frames of a candidate are not decoded for each of its neighbors
        kept = KeptFrames()
        openers = {path: self._images.opener(path, kept) for path in features}
        compared = self._comparing.map(lambda piece: self._compare_all(features, openers, piece), pairs)
        found: dict[int, dict[str, Comparison]] = {}
        for (record, neighbor), one in zip(pairs, compared, strict=True):
            if one is not None:
                found.setdefault(id(record), {})[neighbor.relative_path] = one
        # last, so that every decision counts that was there when the batch was computed
        decisions = self._decisions.read() if self._decisions is not None else StandingDecisions()
        return [self._conclude(record, features, found.get(id(record), {}), decisions) for record in records]

    def answer(self, requests: Sequence[Request]) -> Sequence[Reply]:
        """Return which neighbors show each candidate's picture; one that cannot be read is left out and named."""
        return [self._answer(request) for request in requests if isinstance(request, MatchRequest)]

    def inputs_away(self) -> str | None:
        """Return why the folder of images is away or another one; None where images read before are still there."""
        return self._known.away()

    def figures(self) -> Iterable[Figure]:
        """Return how often features were known."""
        return cache_figures(self._cache)

    def close(self) -> None:
        """End the threads and close the store."""
        self._pool.shutdown()
        self._comparers.shutdown()
        self._cache.close()
        if self._decisions is not None:
            self._decisions.close()

    def _note(self, root: ImageRoot, path: str) -> None:
        if root is self._images:
            self._known.note(path)

    def _all_features(self, paths: list[str]) -> dict[str, FeaturesOrError]:
        found = self._extracting.map(
            lambda piece: list(self._pool.map(lambda path: self._features(self._images, path), piece)), paths
        )
        return dict(zip(paths, found, strict=True))

    def _features(self, root: ImageRoot, path: str) -> FeaturesOrError:
        try:
            return self._cache.get(root, path)
        except ImageError as exc:
            return exc

    def _compare_all(
        self,
        features: dict[str, FeaturesOrError],
        openers: dict[str, FileOpener],
        pairs: Sequence[tuple[Candidates, Neighbor]],
    ) -> list[Comparison]:
        # handing over pairs one by one would cost a tenth of what most pairs take
        size = max(1, min(HANDFUL, len(pairs) // self._computing))
        handfuls = [pairs[start : start + size] for start in range(0, len(pairs), size)]
        done = self._comparers.map(lambda some: [self._compare(features, openers, *pair) for pair in some], handfuls)
        return [one for handful in done for one in handful]

    def _compare(
        self,
        features: dict[str, FeaturesOrError],
        openers: dict[str, FileOpener],
        record: Candidates,
        neighbor: Neighbor,
    ) -> Comparison:
        if neighbor.identical:
            return identical(neighbor.relative_path)
        ours, theirs = features[record.candidate], features[neighbor.relative_path]
        if isinstance(ours, ImageError) or isinstance(theirs, ImageError):
            return None
        both = openers[record.candidate], openers[neighbor.relative_path]
        return self._verify(neighbor.relative_path, ours, theirs, both)

    def _verify(
        self, path: str, candidate: Features, neighbor: Features, openers: tuple[ImageOpener, ImageOpener]
    ) -> Comparison:
        try:
            return evidence_of(path, verify(candidate, neighbor, self._config, openers))
        except ImageError as exc:
            return exc

    def _answer(self, request: MatchRequest) -> Reply:
        with self._scheduler.request():
            root, opener, candidate = self._candidate(request)
        if isinstance(candidate, ImageError):
            outcome = ReplyOutcome.MISSING if isinstance(candidate, MissingImage) else ReplyOutcome.REFUSED
            return reply_to(request, outcome, str(candidate))
        paths = list(dict.fromkeys(request.neighbors))
        compared: list[Comparison] = []
        while len(compared) < len(paths):
            piece = paths[len(compared) : len(compared) + self._workers]
            with self._scheduler.request():
                compared += self._pool.map(lambda path: self._compare_file(candidate, opener, root, path), piece)
        return reply_to(
            request,
            error_message="; ".join(f"neighbor left out: {one}" for one in compared if isinstance(one, ImageError)),
            duplicated=duplicates_among(compared),
            similar=similar_among(compared),
        )

    def _candidate(self, request: MatchRequest) -> tuple[ImageRoot, FileOpener, FeaturesOrError]:
        """Return the root of a request's neighbors, what opens its candidate, and the candidate's features."""
        if (image := request.image) is None:
            opener = self._source.opener(request.candidate)
            return self._target, opener, self._features(self._source, request.candidate)
        opener = FileOpener(lambda: image, "the image", self._images.config)
        try:
            features: FeaturesOrError = read_features(opener, self._config)
        except ImageError as exc:
            features = exc
        if isinstance(features, Features) and request.original_width > 0 and request.original_height > 0:
            features = replace(features, original=(request.original_width, request.original_height))
        return self._images, opener, features

    def _compare_file(self, candidate: Features, opener: ImageOpener, root: ImageRoot, path: str) -> Comparison:
        features = self._features(root, path)
        if isinstance(features, ImageError):
            return features
        return self._verify(path, candidate, features, (opener, root.opener(path)))

    def _conclude(
        self,
        record: Candidates,
        features: dict[str, FeaturesOrError],
        compared: dict[str, Comparison],
        decisions: StandingDecisions,
    ) -> Outcome:
        unread = features.get(record.candidate)
        if isinstance(unread, ImageError):
            return unread
        found = with_contents(record, duplicates_among(compared.values()))
        duplicates = not_denied(record, found, decisions)
        neighbors = {n.relative_path: features.get(n.relative_path) for n in record.neighbors} | compared
        errors = {path: error for path, error in neighbors.items() if isinstance(error, ImageError)}
        reason = left_out(errors.values(), [one.relative_path for one in found if one not in duplicates])
        outcome = VerdictOutcome.DUPLICATE if duplicates else VerdictOutcome.CLEAR
        verdict = Verdict(record.request_id, record.candidate, outcome, reason, similar_among(compared.values()))
        outputs = [Output(VERDICTS, record.candidate, verdict)]
        if duplicates:
            alert = Duplicates(
                record.request_id,
                record.candidate,
                duplicates,
                record.model,
                self._config.threshold,
                datetime.now(UTC),
                tuple(errors),
                record.content,
                record.metadata,
            )
            outputs.append(Output(DUPLICATES, record.candidate, alert))
        return outputs


def make(config: Config) -> MatcherStage:
    """Build the stage from its settings; ConfigError where FEATURES_DIR cannot be used."""
    places = (config.images_dir, config.source_dir, config.target_dir)
    images, source, target = (ImageRoot(place, private=config.images_private) for place in places)
    return MatcherStage(
        config.matcher, images, config.nb_workers or images.readers, source=source, target=target,
        store=open_store(config), decisions=DecisionsLog(config.kafka), kafka=config.kafka,
    )  # fmt: skip


def main(config: Config | None = None) -> None:
    """Run until SIGTERM or SIGINT."""
    serve(MatcherStage, make, config)


if __name__ == "__main__":
    main()
