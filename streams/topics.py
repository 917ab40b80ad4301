"""The topics, the stages that read them, and the names of their groups."""

from dataclasses import dataclass, field

from schemas.group_records import DecisionRecord, GroupingFact, GroupRecord
from schemas.records import (
    Candidates,
    Deduped,
    Duplicates,
    Embedding,
    EncodeRequest,
    ImageNew,
    MatchRequest,
    Record,
    Reply,
    SearchRequest,
    StageState,
    Verdict,
)
from streams.config import EMBEDDINGS_TOPIC, KafkaConfig

DAY_MS = 24 * 60 * 60 * 1000
PARTITIONS = 6
"""Of a topic that several processes share: up to this many of a stage. Partitions can be added."""


@dataclass(frozen=True)
class Topic:
    """One topic: its records, and how the broker keeps it.

    kind       None: no records; the messages of other topics, as they came
    holds      what it is for, in a sentence
    key        what the key of a message names
    tombstone  what a message without a value says; empty: there is none
    """

    name: str
    kind: type[Record] | None
    partitions: int
    config: dict[str, str] = field(default_factory=dict)
    holds: str = ""
    key: str = "the image's path"
    tombstone: str = ""


COMPACTED = {"cleanup.policy": "compact", "delete.retention.ms": str(30 * DAY_MS)}

MAX_GROUP_BYTES = 4 * 2**20
"""Of a group's record: some 20,000 images."""

IMAGES_NEW = Topic(
    "images.new",
    ImageNew,
    PARTITIONS,
    holds="Announcements of images, from any producer.",
    tombstone="the image is gone",
)
EMBEDDINGS = Topic(
    EMBEDDINGS_TOPIC,
    Embedding,
    1,
    COMPACTED,
    holds="The ordered log of what each image looks like; a collection that moves to another model has a second one.",
    tombstone="the image is gone",
)
CANDIDATES = Topic(
    "candidates", Candidates, PARTITIONS, holds="Each new image with those that it is to be compared with."
)
DUPLICATES = Topic(
    "duplicates", Duplicates, PARTITIONS, holds="Alerts: an image with those that show the same picture."
)
VERDICTS = Topic("verdicts", Verdict, PARTITIONS, holds="What became of each announcement.")
GROUPS = Topic(
    "groups",
    GroupRecord,
    1,
    {**COMPACTED, "max.message.bytes": str(2 * MAX_GROUP_BYTES)},
    holds="Groups of images that show one picture; the header event says what became of a group.",
    key="the path of the group's earliest image",
    tombstone="the group has ended",
)
DECISIONS = Topic(
    "decisions",
    DecisionRecord,
    1,
    COMPACTED,
    holds="What people say of pairs and groups.",
    key="the decision's id",
    tombstone="the decision is undone",
)
# a fact holds a whole decision, which may be as large as the usual limit, and a little more
GROUPING_STATE = Topic(
    "grouping.state",
    GroupingFact,
    1,
    {**COMPACTED, "max.message.bytes": str(2 * 2**20)},
    holds="What the grouping stage knows; `dedupe` alone reads it, too.",
    key="the fact's id",
    tombstone="the fact holds no longer",
)
DEDUPED = Topic(
    "deduped",
    Deduped,
    1,
    COMPACTED,
    holds="Which images that were loaded silently `dedupe` has searched for; nobody else reads it.",
    tombstone="the image has gone or changed",
)
DEAD_LETTERS = Topic("dead-letters", None, 1, holds="Messages that were set aside, as they came.", key="as it came")

SHORT_LIVED = {"cleanup.policy": "delete", "retention.ms": "300000", "segment.ms": "300000"}
"""Five minutes, longer than anybody waits for a reply. Segments are short, too: the broker removes closed ones only."""

ENCODE_REQUESTS = Topic(
    "encode.requests",
    EncodeRequest,
    PARTITIONS,
    SHORT_LIVED,
    holds="Requests for a fingerprint.",
    key="the correlation id",
)
SEARCH_REQUESTS = Topic(
    "search.requests", SearchRequest, 1, SHORT_LIVED, holds="Requests for neighbors.", key="the correlation id"
)
MATCH_REQUESTS = Topic(
    "match.requests",
    MatchRequest,
    PARTITIONS,
    SHORT_LIVED,
    holds="Requests to compare images.",
    key="the correlation id",
)
REPLIES = Topic("replies", Reply, 3, SHORT_LIVED, holds="The stages' replies to requests.", key="the correlation id")
STAGE_STATES = Topic(
    "stage.states",
    StageState,
    1,
    SHORT_LIVED,
    holds="What each process does, every ten seconds and when it changes.",
    key="the process",
)

TOPICS = (
    IMAGES_NEW,
    EMBEDDINGS,
    CANDIDATES,
    DUPLICATES,
    VERDICTS,
    GROUPS,
    DECISIONS,
    GROUPING_STATE,
    DEDUPED,
    DEAD_LETTERS,
    ENCODE_REQUESTS,
    SEARCH_REQUESTS,
    MATCH_REQUESTS,
    REPLIES,
    STAGE_STATES,
)

READS = {"encoder": IMAGES_NEW, "search": EMBEDDINGS, "matcher": CANDIDATES, "grouping": DECISIONS}
"""The topic that each stage reads, and subscribes to."""

ALSO_READS = {"grouping": (EMBEDDINGS, DUPLICATES)}
"""More topics that a stage reads: all their partitions go to the process that owns the topic in READS."""

ANSWERS = {"encoder": ENCODE_REQUESTS, "search": SEARCH_REQUESTS, "matcher": MATCH_REQUESTS}
"""The topic of the requests that each stage answers."""

WRITES = {
    "encoder": (EMBEDDINGS, VERDICTS, DEAD_LETTERS, STAGE_STATES, REPLIES),
    "search": (CANDIDATES, VERDICTS, DEAD_LETTERS, STAGE_STATES, REPLIES),
    "matcher": (DUPLICATES, VERDICTS, DEAD_LETTERS, STAGE_STATES, REPLIES),
    "grouping": (GROUPS, GROUPING_STATE, DEAD_LETTERS, STAGE_STATES),
    "bridge": (IMAGES_NEW, DECISIONS, ENCODE_REQUESTS, SEARCH_REQUESTS, MATCH_REQUESTS),
    "dedupe": (CANDIDATES, DEDUPED, SEARCH_REQUESTS),
}
"""The topics that each process writes."""

ANNOUNCED_IN = "announced-partition"
"""Header of an embedding: the partition of images.new that held the announcement."""

ANNOUNCED_AT = "announced-at"
"""Header of all that follows from an announcement: its timestamp, milliseconds since 1970."""

REPLAYED = "replayed"
"""Header of a message that was a dead letter: how often it has been sent back."""

REPLAYED_LETTER = "replayed-letter"
"""Header of such a message: the name of the dead letter."""


def requests_group(kafka: KafkaConfig, stage: str) -> str:
    """Return the group in which a stage's processes share its requests."""
    return kafka.topic(f"{stage}.requests")
