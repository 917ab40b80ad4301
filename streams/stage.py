"""The contract of a stage: a function from the records of one topic to records of others, batch by batch."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Generic

from imagetools.errors import ImageToolsError
from schemas.codec import R
from schemas.records import Record, Reply, Request
from streams.topics import Topic

Headers = tuple[tuple[str, bytes | None], ...]


@dataclass(frozen=True, slots=True)
class Received(Generic[R]):
    """One decoded message of the stage's topic.

    path       the message's key
    record     None: the image was removed, or what the key names is no more
    timestamp  of the message, milliseconds since 1970
    topic      that it was read from, without a prefix
    """

    path: str
    record: R | None
    partition: int
    offset: int
    timestamp: int
    headers: Headers = ()
    topic: str = ""


@dataclass(frozen=True, slots=True)
class Output:
    """One message to send.

    record      None: the image was removed
    timestamp   milliseconds since 1970; None: now
    headers     added to those of the input
    everywhere  whether each partition of the topic gets it; otherwise the one of its path
    """

    topic: Topic
    path: str
    record: Record | None
    timestamp: int | None = None
    headers: Headers = field(default=())
    everywhere: bool = False


Outcome = Sequence[Output] | ImageToolsError
"""The result of one input: the messages to send, or why it becomes a dead letter."""


@dataclass(frozen=True, slots=True)
class Figure:
    """A number that a stage shows to those who watch it.

    name    by Prometheus' conventions, with its unit, without the project's prefix
    counts  whether it only grows; otherwise it is a measurement
    labels  names and values
    """

    name: str
    help: str
    value: float
    counts: bool = False
    labels: tuple[tuple[str, str], ...] = ()


class Stage(Generic[R]):
    """One stage. Everything except `answer` and `owns_requests` is called from the runner's thread.

    name            also the name of its consumer group
    source          the topic that it reads
    kind            the records of that topic
    also            more topics that it reads: all their partitions go to the process that owns the source's only one
    tombstones      whether a message without a value has a meaning there
    batch_size      the most messages of a batch
    answer_threads  the most calls of `answer` at a time
    answer_batch    the most requests of one call of `answer`
    reads_images    whether it opens files below IMAGES_DIR
    passes_headers  whether the headers of an input go into its outputs
    gives_verdicts  whether a dead letter is also the verdict on an image
    """

    name: str
    source: Topic
    kind: type[R]
    also: tuple[Topic, ...] = ()
    tombstones: bool = False
    batch_size: int = 64
    answer_threads: int = 1
    answer_batch: int = 1
    reads_images: bool = False
    passes_headers: bool = True
    gives_verdicts: bool = True

    @property
    def stale(self) -> bool:
        """Whether `restore` has to run again before the next batch, as after `run` has changed the stage's state."""
        return False

    def run(self, batch: Sequence[Received[R]]) -> Sequence[Outcome]:
        """Return the outcome of each input, in order, without changing the stage's own state.

        A stage that changes it all the same is `stale` if `aborted` follows.
        ImageRootUnavailable when no input is to blame: the runner tries the batch again later.
        """
        raise NotImplementedError

    def committed(self, offset: int) -> None:
        """Apply the last `run` to the stage's state: its outcomes were committed.

        offset  the next one, in the partition of the batch's last message
        """

    def aborted(self) -> None:
        """Discard the last `run`: its outcomes were not committed, and the same messages will come again."""

    def note(self, partition: int) -> str:
        """Return what is committed beside the partition's offset, for `restore`; at most some 4,000 bytes.

        Called after `run`, before the commit.
        """
        return ""

    def restore(self, partition: int, offset: int, note: str = "") -> Iterator[str] | None:
        """Bring the stage's state to `offset` of a partition that it now owns.

        Returns None when there is nothing to do; otherwise an iterator that works in small steps and yields its
        progress. No partition of the stage is read until the iterator ends.
        partition  of the source
        note       that was committed with the offset
        """

    def letter(self, received: Received[R]) -> R | None:
        """Return the record that a dead letter of this input holds; None: the message's own."""
        return None

    @property
    def concern(self) -> str:
        """Say what images wait for although the stage runs; empty: nothing."""
        return ""

    def inputs_away(self) -> str | None:
        """Return why no input can be read at the moment; None when known good inputs can be.

        Called after many dead letters in a row, to tell a folder that is away from wrong names.
        """

    def released(self, partition: int) -> None:
        """Note that another process owns the partition now, so the stage's state is no longer current."""

    def idle(self) -> None:
        """Use a moment without messages. Must not take long."""

    def close(self) -> None:
        """Release what the stage holds."""

    def figures(self) -> Iterable[Figure]:
        """Return what there is to watch. Called every few seconds, between batches; must not take long."""
        return ()

    # requests, on threads of the request server

    def answer(self, requests: Sequence[Request]) -> Sequence[Reply]:
        """Return the reply to each request, in order. ImageRootUnavailable when no request is to blame."""
        raise NotImplementedError

    def owns_requests(self) -> bool | None:
        """Whether this process alone answers the stage's requests now; None when all its processes share them."""
        return None
