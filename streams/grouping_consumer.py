"""embeddings, duplicates, decisions → groups: keep groups of images in step with alerts and with people's words.

The state is a view of three topics at the group's committed offsets. Every change of it goes to `grouping.state` in
the transaction of the batch, so that the next owner reads it there and nothing else.
"""

import logging
import time
from collections.abc import Iterable, Iterator, Sequence

from imagetools.errors import ImageRootUnavailable, MessageError
from imagetools.features.cache import FeatureCache
from imagetools.features.store import FeatureStore
from imagetools.grouping.keep import KEEP_ORDER
from imagetools.grouping.records import ImageKey
from imagetools.grouping.relations import Relation
from imagetools.image_root import ImageRoot
from imagetools.matching.config import MatcherConfig
from schemas.group_records import DecisionRecord, GroupingFact, SeenFile
from schemas.records import Duplicates, Embedding, ImageRecord
from streams.config import Config, KafkaConfig
from streams.feature_store import cache_figures, open_store
from streams.grouping.announced_files import AnnouncedFiles
from streams.grouping.file_look import look_at
from streams.grouping.outputs import outputs_of
from streams.grouping.pair_comparer import PairComparer
from streams.grouping.state import GroupingState
from streams.kafka.log_reader import LogReader
from streams.known_images import KnownImages
from streams.search.log_index import announced_in
from streams.service import serve
from streams.stage import Figure, Outcome, Output, Received, Stage
from streams.standing_decisions import check
from streams.topics import DECISIONS, DUPLICATES, EMBEDDINGS, GROUPING_STATE

log = logging.getLogger(__name__)

STEP_S = 0.05
"""How long a step of a restore may take: the consumer does not poll meanwhile."""

MAX_CACHED_BYTES = 64 * 1024 * 1024
"""Of features in memory: those of a group's earliest images are needed again."""


class GroupingStage(Stage[ImageRecord]):
    """Owns all groups. One process works; a second one stands by and knows nothing.

    state  what the topics say up to the committed offsets, and the current batch
    """

    name = "grouping"
    # its one partition decides who owns the groups
    source = DECISIONS
    kind = DecisionRecord
    also = (EMBEDDINGS, DUPLICATES)
    tombstones = True
    reads_images = True
    passes_headers = False
    gives_verdicts = False

    def __init__(
        self,
        kafka: KafkaConfig,
        config: MatcherConfig,
        images: ImageRoot,
        *,
        store: FeatureStore | None = None,
        keep_order: Sequence[str] = KEEP_ORDER,
    ) -> None:
        """Know nothing yet.

        store       keeps features on disk; the stage closes it
        keep_order  criteria for the image of a group to keep, the weightiest first
        """
        self._kafka = kafka
        self._keep_order = keep_order
        self._known = KnownImages(images)
        self._cache = FeatureCache(
            config, store=store, max_bytes=MAX_CACHED_BYTES, on_read=lambda _root, path: self._known.note(path)
        )
        self._files = AnnouncedFiles(images)
        self._comparer = PairComparer(self._files, config, self._cache)
        self.state = GroupingState(self._compare)
        self._changed = False
        self._stale = False
        self._away = False

    @property
    def stale(self) -> bool:
        """After a batch that was not committed: the state has its changes."""
        return self._stale

    def run(self, batch: Sequence[Received[ImageRecord]]) -> Sequence[Outcome]:
        """Take images, alerts and decisions; return the facts and groups that have changed."""
        if self._away and (reason := self._known.away()):
            # before anything is changed, so that nothing has to be restored
            raise ImageRootUnavailable(reason)
        self._away, self._changed = False, True
        outcomes: list[Outcome] = []
        for received in batch:
            try:
                self._take(received)
                outcomes.append(())
            except MessageError as exc:
                outcomes.append(exc)
        outputs = [*self._settle(), *self._facts()]
        # one input carries the outputs of all: each depends on the whole batch
        last = max((n for n, outcome in enumerate(outcomes) if outcome == ()), default=None)
        if last is not None:
            outcomes[last] = outputs
        return outcomes

    def committed(self, offset: int) -> None:
        """Note that the state is what the log says."""
        self._changed = False

    def aborted(self) -> None:
        """Note that the state has changes that were not committed."""
        self._stale = self._changed

    def inputs_away(self) -> str | None:
        """Return why the folder of images is away or another one; None where images read before are still there."""
        return self._known.away()

    def released(self, partition: int) -> None:
        """Forget everything: another process owns the groups now."""
        self._forget()

    def figures(self) -> Iterable[Figure]:
        """Return how much the stage knows, and how often features were known."""
        return (
            Figure("grouping_images", "Images that the grouping stage knows.", len(self.state.images)),
            Figure("groups", "Groups of images.", self.state.grouping.nb_groups),
            *cache_figures(self._cache),
        )

    def close(self) -> None:
        """Close the store."""
        self._cache.close()

    # the state

    def restore(self, partition: int, offset: int, note: str = "") -> Iterator[str]:
        """Read the state from its log, which says exactly what the committed offsets do.

        The offsets were read before, and are stable: no transaction with others is open. So whatever belongs to them
        lies before the log's present end; a transaction that is still open there hides it until it has ended.
        """
        self._forget()
        return self._restore()

    def _restore(self) -> Iterator[str]:
        yield "replaying, 0 %"
        reader = LogReader(self._kafka, GROUPING_STATE.name, GroupingFact, 0)
        try:
            end, state, count = reader.end(), self.state, 0
            progress, began = "replaying, 0 %", time.monotonic()
            for received in reader.read(0, end, patient=True):
                if received is not None:
                    state.load(received.path, received.record)
                    progress = f"replaying, {100 * received.offset // end} %"
                    count += 1
                if received is None or time.monotonic() - began > STEP_S:
                    yield progress
                    began = time.monotonic()
            for _ in state.divide():
                yield "dividing images into groups"
            log.info("grouping: %d images, %d facts replayed", len(state.images), count)
        finally:
            reader.close()

    def _forget(self) -> None:
        self.state = GroupingState(self._compare)
        self._changed = self._stale = False

    # a batch

    def _take(self, received: Received[ImageRecord]) -> None:
        """Take one message into the state. MessageError where it is none that can hold."""
        record, state = received.record, self.state
        match received.topic:
            case EMBEDDINGS.name if record is None:
                state.remove(received.path, received.timestamp, announced_in(received))
            case EMBEDDINGS.name if isinstance(record, Embedding):
                source = announced_in(received)
                state.place(
                    received.path, record.digest, received.timestamp, source, record.metadata, silent=not record.alert
                )
            case DUPLICATES.name if isinstance(record, Duplicates):
                self._take_alert(record)
            case DECISIONS.name if record is None:
                state.decide(received.path, received.offset, None)
            case DECISIONS.name if isinstance(record, DecisionRecord):
                check(record)
                state.decide(received.path, received.offset, record)
            case _:
                raise MessageError("has no value")

    def _take_alert(self, alert: Duplicates) -> None:
        for duplicate in alert.duplicated:
            if alert.content and duplicate.content:
                other = ImageKey(duplicate.relative_path, duplicate.content.hex())
                self.state.put_pair(ImageKey(alert.candidate, alert.content.hex()), other, duplicate)
            else:
                self.state.put_old_pair(alert.candidate, duplicate)

    def _settle(self) -> list[Output]:
        try:
            return outputs_of(self.state.settle(), self.state, self._look, self._keep_order)
        except ImageRootUnavailable:
            self._away = True
            raise

    def _facts(self) -> list[Output]:
        return [Output(GROUPING_STATE, key, fact) for key, fact in self.state.take_facts().items()]

    # files

    def _compare(self, left: ImageKey, right: ImageKey) -> Relation | None:
        return self._comparer(left, right)

    def _look(self, image: ImageKey) -> SeenFile | None:
        known = self.state.look(image)
        if known is None and (known := look_at(self._files, self._cache, image)) is not None:
            self.state.set_look(image, known)
        return known


def make(config: Config) -> GroupingStage:
    """Build the stage from its settings; ConfigError where FEATURES_DIR cannot be used."""
    images, store = ImageRoot(config.images_dir, private=config.images_private), open_store(config)
    return GroupingStage(config.kafka, config.matcher, images, store=store, keep_order=config.keep_order)


def main(config: Config | None = None) -> None:
    """Run until SIGTERM or SIGINT."""
    serve(GroupingStage, make, config)


if __name__ == "__main__":
    main()
