"""What a stage is: a function from the records of one topic to the records of others, batch by batch."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Generic

from imagetools.errors import ImageToolsError
from schemas.codec import R
from schemas.records import Record, Reply, Request
from streams.topics import Topic

Headers = tuple[tuple[str, bytes | None], ...]


@dataclass(frozen=True, slots=True)
class Received(Generic[R]):
    """One message of the stage's topic, read.

    record     None: the image is gone
    timestamp  of the message, milliseconds since 1970
    """

    path: str
    record: R | None
    partition: int
    offset: int
    timestamp: int
    headers: Headers = ()


@dataclass(frozen=True, slots=True)
class Output:
    """One message to send.

    record     None: the image is gone
    timestamp  milliseconds since 1970; None is now
    headers    beside those that came with the input
    """

    topic: Topic
    path: str
    record: Record | None
    timestamp: int | None = None
    headers: Headers = field(default=())


Outcome = Sequence[Output] | ImageToolsError
"""What became of one input: what to send, or why it is set aside."""


class Stage(Generic[R]):
    """One stage; the runner calls its methods from one thread, but for `answer` and `owns_requests`.

    name            names its consumer group, too
    source          the topic that it reads
    kind            the record there
    tombstones      whether a null value has a meaning there
    batch_size      how many messages it takes at most at a time
    answer_threads  how many calls of `answer` may run at a time
    answer_batch    how many requests it would rather have in one
    reads_images    whether it opens files below IMAGES_DIR
    """

    name: str
    source: Topic
    kind: type[R]
    tombstones: bool = False
    batch_size: int = 64
    answer_threads: int = 1
    answer_batch: int = 1
    reads_images: bool = False

    def run(self, batch: Sequence[Received[R]]) -> Sequence[Outcome]:
        """The outcome of each input, in place. It changes nothing that it remembers.

        Raises ImageRootUnavailable where no input is to blame: the batch is tried again later.
        """
        raise NotImplementedError

    def committed(self, offset: int) -> None:
        """What `run` gave was committed: only now may the stage change what it remembers.

        offset  where the log goes on, in the partition that the batch ended in
        """

    def aborted(self) -> None:
        """What `run` gave last is void; the same messages will come again."""

    def restore(self, partition: int, offset: int) -> Iterator[str] | None:
        """Bring what the stage remembers to `offset` of a partition that it now owns.

        Gives None where there is nothing to remember; otherwise an iterator that does the work in small steps and
        says how far it is. The partition stands still until it is exhausted.
        """

    def inputs_away(self) -> str | None:
        """Why no input can be had at the moment; None where inputs that are known to be good can be had.

        Asked after many dead letters in a row, to tell a folder that is away from names that are wrong.
        """

    def released(self, partition: int) -> None:
        """A partition went to another process: what the stage remembers grows old from now on."""

    def idle(self) -> None:
        """There is nothing to do at the moment. Must not take long."""

    def close(self) -> None:
        """The stage stops."""

    # requests, from other threads than the runner's

    def answer(self, requests: Sequence[Request]) -> Sequence[Reply]:
        """The reply to each request, in place. ImageRootUnavailable where nobody is to blame."""
        raise NotImplementedError

    def owns_requests(self) -> bool | None:
        """Whether this process alone answers the stage's requests now; None where all its processes share them."""
        return None
