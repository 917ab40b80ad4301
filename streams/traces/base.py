"""Traces as the stages and the bridge see them. Here none is made: streams/traces/spans.py has those that are sent.

A message's place in a trace is in its header `traceparent` (W3C Trace Context), so a trace goes on in whatever follows
from the message.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from types import TracebackType
from typing import Final

from confluent_kafka import Message

from schemas.records import Reply
from streams.stage import Headers, Outcome

TRACEPARENT: Final = "traceparent"
TRACESTATE: Final = "tracestate"
"""Headers of a message, and of an HTTP request."""


class BatchTrace(AbstractContextManager["BatchTrace"]):
    """The work on a batch of messages, from when it was taken to its end. Does nothing.

    Leaving the context ends what is open: the work was put off, and the same messages will come again.
    """

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leave nothing open."""

    def step(self, name: str) -> None:
        """Note that the next step of the work begins."""

    def onward(self, number: int, given: Headers, *, always: bool = True) -> Headers:
        """Return the headers of what follows from a message of the batch: `given`, with its new place in the trace.

        number  of the message in the batch
        always  False: only where `given` has a place in a trace
        """
        return given

    def log_fields(self, number: int) -> dict[str, str]:
        """Return what a log record about a message of the batch adds: its trace_id."""
        return {}

    def ended(self, outcomes: Sequence[Outcome], *, committed: bool) -> None:
        """Note the outcome of each message.

        committed  False: the transaction was aborted, and the work is done again
        """

    def answered(self, replies: Sequence[Reply]) -> None:
        """Note the reply to each message, where they are requests."""

    def postponed(self, reason: str) -> None:
        """Note why nothing was sent."""


class Sending:
    """A message on its way to the broker. Does nothing.

    headers  go with the message
    """

    headers: Headers = ()

    def done(self, error: str = "", place: tuple[int, int] | None = None) -> None:
        """Note the end; may be called from another thread.

        error  why the broker does not have the message; empty: it has it
        place  its partition and offset
        """


UNTRACED: Final = BatchTrace()
UNTRACED_SENDING: Final = Sending()

OnStatus = Callable[[int], None]
"""Gets the status of an HTTP answer."""


class Traces:
    """Makes traces of messages and requests. Makes none."""

    on = False

    def batch(self, batch: Sequence[Message], group: str) -> BatchTrace:
        """Begin the work on messages that were taken just now.

        group  whose consumer took them; empty: no group's
        """
        return UNTRACED

    def sending(self, topic: str, key: bytes) -> Sending:
        """Begin to send a message, as a part of the request that is being served, if any."""
        return UNTRACED_SENDING

    @contextmanager
    def serving(self, method: str, route: str, path: str, headers: Mapping[str, str]) -> Iterator[OnStatus]:
        """Serve an HTTP request while the context is open.

        route    the path's pattern
        headers  of the request, which may name the caller's trace
        """
        yield lambda _: None

    def close(self) -> None:
        """Send what is left, for some seconds at most."""


NO_TRACES: Final = Traces()
