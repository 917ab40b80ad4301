"""The topics, the stages that read them, and the names of their groups."""

from dataclasses import dataclass, field

from schemas.group_records import DecisionRecord, GroupingFact, GroupRecord
from schemas.records import (
    Candidates,
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

    kind  None: no records; the messages of other topics, as they came
    """

    name: str
    kind: type[Record] | None
    partitions: int
    config: dict[str, str] = field(default_factory=dict)


COMPACTED = {"cleanup.policy": "compact", "delete.retention.ms": str(30 * DAY_MS)}

MAX_GROUP_BYTES = 4 * 2**20
"""Of a group's record: some 20,000 images."""

IMAGES_NEW = Topic("images.new", ImageNew, PARTITIONS)
EMBEDDINGS = Topic(EMBEDDINGS_TOPIC, Embedding, 1, COMPACTED)
CANDIDATES = Topic("candidates", Candidates, PARTITIONS)
DUPLICATES = Topic("duplicates", Duplicates, PARTITIONS)
VERDICTS = Topic("verdicts", Verdict, PARTITIONS)
GROUPS = Topic("groups", GroupRecord, 1, {**COMPACTED, "max.message.bytes": str(2 * MAX_GROUP_BYTES)})
DECISIONS = Topic("decisions", DecisionRecord, 1, COMPACTED)
# a fact holds a whole decision, which may be as large as the usual limit, and a little more
GROUPING_STATE = Topic("grouping.state", GroupingFact, 1, {**COMPACTED, "max.message.bytes": str(2 * 2**20)})
DEAD_LETTERS = Topic("dead-letters", None, 1)

SHORT_LIVED = {"cleanup.policy": "delete", "retention.ms": "300000", "segment.ms": "300000"}
"""Five minutes, longer than anybody waits for a reply. Segments are short, too: the broker removes closed ones only."""

ENCODE_REQUESTS = Topic("encode.requests", EncodeRequest, PARTITIONS, SHORT_LIVED)
SEARCH_REQUESTS = Topic("search.requests", SearchRequest, 1, SHORT_LIVED)
MATCH_REQUESTS = Topic("match.requests", MatchRequest, PARTITIONS, SHORT_LIVED)
REPLIES = Topic("replies", Reply, 3, SHORT_LIVED)
STAGE_STATES = Topic("stage.states", StageState, 1, SHORT_LIVED)

TOPICS = (
    IMAGES_NEW,
    EMBEDDINGS,
    CANDIDATES,
    DUPLICATES,
    VERDICTS,
    GROUPS,
    DECISIONS,
    GROUPING_STATE,
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

ANNOUNCED_IN = "announced-partition"
"""Header of an embedding: the partition of images.new that held the announcement."""


def requests_group(kafka: KafkaConfig, stage: str) -> str:
    """Return the group in which a stage's processes share its requests."""
    return kafka.topic(f"{stage}.requests")
