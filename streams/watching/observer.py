"""What a runner tells of its work to those who watch; nothing happens by default."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from enum import StrEnum
from typing import Any, Protocol

from imagetools.errors import MessageError
from schemas.records import State
from streams.stage import Outcome, Received

OnState = Callable[..., None]
"""Gets the runner's State and, where there is one, the reason."""


def ignore_state(_state: State, _reason: str = "") -> None:
    """The default OnState."""


class BatchStep(StrEnum):
    """What a runner does with a batch, in order."""

    READ = "read"
    RUN = "run"
    COMMIT = "commit"
    APPLY = "apply"


class Owned(Protocol):
    """The partitions of a stage's process."""

    @property
    def restoring(self) -> bool:
        """Whether any of them waits for the stage's state to be restored."""

    @property
    def owned(self) -> int:
        """How many of the stage's source there are."""

    def lag(self) -> dict[tuple[str, int], int]:
        """Return by topic and partition how far each is behind its end, in offsets; asks no broker."""


class Observer:
    """Sees a runner's work.

    All methods are called from the runner's thread; they must be quick and must not raise.
    """

    def turned(self, partitions: Owned, *, member: bool) -> None:
        """See one turn of the loop; member: whether the process belongs to its group."""

    def timed(self, _step: BatchStep) -> AbstractContextManager[Any]:
        """Return a context that is open during a step of a batch."""
        return nullcontext()

    def committed(self, received: Sequence[Received[Any] | MessageError], outcomes: Sequence[Outcome]) -> None:
        """See a batch whose outcomes were committed."""

    def aborted(self) -> None:
        """See a batch whose transaction was aborted."""

    def rebalanced(self) -> None:
        """See partitions come or go."""
