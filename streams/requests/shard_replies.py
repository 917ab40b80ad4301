"""The replies of several shards to one search, as one."""

from dataclasses import replace

from schemas.neighbor_records import ShardAnswer
from schemas.records import Reply, ReplyOutcome
from streams.sharding.answers import merge
from streams.sharding.shards import Shard


class ShardReplies:
    """Collects the replies to one request: one from each shard, or a single one from a stage without shards."""

    def __init__(self) -> None:
        # by how many shards there are: while a collection moves to another number, both may reply
        self._replies: dict[int, dict[int, tuple[Reply, ShardAnswer]]] = {}

    def take(self, reply: Reply) -> Reply | None:
        """Take a reply; return the whole one once it is there.

        A shard that cannot serve the request speaks for all: a part of the neighbors would look like all of them.
        """
        answer = reply.shard
        if answer is None:
            return reply
        if reply.outcome is not ReplyOutcome.SERVED:
            blame = "" if reply.outcome is ReplyOutcome.REFUSED else f"shard {answer.shard}/{answer.shards}: "
            return replace(reply, error_message=blame + reply.error_message, shard=None)
        replies = self._replies.setdefault(answer.shards, {})
        # one that is sent twice, while a shard moves to another process, counts once
        replies[answer.shard] = reply, answer
        return _joined(replies) if len(replies) == answer.shards else None

    def missing(self) -> list[Shard]:
        """Return the shards that have not replied; none where nobody has."""
        if not self._replies:
            return []
        count = max(self._replies, key=lambda count: len(self._replies[count]) / count)
        return [Shard(index, count) for index in range(count) if index not in self._replies[count]]


def _joined(replies: dict[int, tuple[Reply, ShardAnswer]]) -> Reply:
    given = [replies[index] for index in sorted(replies)]
    first = given[0][0]
    return replace(
        first,
        neighbors=merge([answer for _, answer in given]),
        model=next((reply.model for reply, _ in given if reply.model), ""),
        error_message="; ".join(filter(None, (reply.error_message for reply, _ in given))),
        shard=None,
    )
