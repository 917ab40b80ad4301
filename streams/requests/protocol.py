"""The request protocol: topics, deadlines, and what fits into one message.

A request is not part of the exactly-once stream: it changes nothing, so it may be answered twice or not at all, and it
is dropped once its deadline has passed.
"""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from schemas.neighbor_records import Neighbor
from schemas.records import Duplicate, EncodeRequest, MatchRequest, Reply, ReplyOutcome, Request, SearchRequest, Similar
from streams.topics import ENCODE_REQUESTS, MATCH_REQUESTS, SEARCH_REQUESTS, SHORT_LIVED, Topic

REQUEST_TOPICS: dict[type[Request], Topic] = {
    EncodeRequest: ENCODE_REQUESTS,
    SearchRequest: SEARCH_REQUESTS,
    MatchRequest: MATCH_REQUESTS,
}

REQUEST_RETENTION_MS = int(SHORT_LIVED["retention.ms"])

MAX_MESSAGE_BYTES = 900_000
"""Of one request or reply; below a broker's default limit of 1 MB."""

MAX_RESULT_BYTES = 250
"""What Avro makes of one neighbor, duplicate or similar image, without its path, points and regions, at most."""


def reply_to(
    request: Request, outcome: ReplyOutcome = ReplyOutcome.SERVED, error_message: str = "", **found: Any
) -> Reply:
    """Address a reply to the client that sent the request."""
    return Reply(request.envelope.correlation_id, request.envelope.bridge, outcome, error_message, **found)


def is_late(request: Request) -> bool:
    """Say whether the request's deadline has passed."""
    return datetime.now(UTC) > request.envelope.deadline


def shrink(reply: Reply) -> Reply:
    """Drop points and regions of a reply that is too large for a message; refuse it if that does not suffice."""
    bare = replace(
        reply,
        duplicated=tuple(replace(one, points=(), regions=()) for one in reply.duplicated),
        similar=tuple(replace(one, regions=()) for one in reply.similar),
    )
    hits = () if bare.shard is None else (*bare.shard.near, *bare.shard.local)
    neighbors = (*bare.neighbors, *(hit.neighbor for hit in hits))
    named: tuple[Duplicate | Neighbor | Similar, ...] = (*bare.duplicated, *neighbors, *bare.similar)
    paths = [one.relative_path for one in named]
    size = sum(len(path.encode()) + MAX_RESULT_BYTES for path in paths) + len(bare.error_message.encode())
    if size < MAX_MESSAGE_BYTES:
        return bare
    reason = "the answer does not fit one message: ask for fewer neighbors"
    return Reply(reply.correlation_id, reply.bridge, ReplyOutcome.REFUSED, reason)
