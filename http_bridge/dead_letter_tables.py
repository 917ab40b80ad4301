"""Dead letters in the bridge's view of the topics, and which of them were sent back."""

import sqlite3
from collections.abc import Sequence

import msgspec
from msgspec import Struct

from streams.config import KafkaConfig
from streams.kafka.follower import ConsumedMessage
from streams.kafka.messages import headers
from streams.kafka.replay import letter_of, reason_to_refuse
from streams.topics import DEAD_LETTERS, IMAGES_NEW, REPLAYED_LETTER

TABLES = """
CREATE TABLE letters (
    time INTEGER, partition INTEGER, offset INTEGER, name TEXT, stage TEXT, error_type TEXT, answer TEXT,
    PRIMARY KEY (partition, offset)
) WITHOUT ROWID;
CREATE INDEX letters_by_time ON letters (time, partition, offset);
CREATE TABLE letters_sent_back (name TEXT PRIMARY KEY, time INTEGER) WITHOUT ROWID;
"""


class DeadLetterAnswer(Struct):
    """A message that was set aside: its path, reason, origin and time.

    name       of the letter, to send it back by
    replays    how often the message had been sent back when it was set aside
    sent_back  whether it was sent back since; of candidates, only whether that failed again
    refusal    why it must not be sent back, and what to do instead; empty where it may be
    """

    name: str
    relative_path: str
    stage: str
    topic: str
    partition: str
    offset: str
    error_type: str
    error_message: str
    time: str
    replays: int
    refusal: str
    sent_back: bool = False


class DeadLetterTables:
    """The part of the view that is about dead letters."""

    topics = (DEAD_LETTERS, IMAGES_NEW)
    tables = TABLES

    def __init__(self, kafka: KafkaConfig) -> None:
        self._kafka = kafka

    def load(self, connection: sqlite3.Connection) -> None:
        """Keep nothing beside the tables."""

    def take(self, connection: sqlite3.Connection, batch: Sequence[ConsumedMessage]) -> None:
        """Store letters, and the names of those that messages were sent back from."""
        letters, sent = [], []
        for seen in batch:
            time = seen.message.timestamp()[1]
            if name := dict(headers(seen.message)).get(REPLAYED_LETTER):
                sent.append((name.decode("utf-8", "replace"), time))
            if seen.topic is DEAD_LETTERS:
                answer = dead_letter_answer(self._kafka, seen)
                place = seen.message.partition(), seen.message.offset()
                text = msgspec.json.encode(answer).decode()
                letters.append((time, *place, answer.name, answer.stage, answer.error_type, text))
        connection.executemany("INSERT OR REPLACE INTO letters VALUES (?, ?, ?, ?, ?, ?, ?)", letters)
        connection.executemany("INSERT OR REPLACE INTO letters_sent_back VALUES (?, ?)", sent)

    def committed(self, batch: Sequence[ConsumedMessage], *, live: bool) -> None:
        """Keep nothing beside the tables."""

    def delete_before(self, connection: sqlite3.Connection, time: int) -> None:
        """Delete what is older than `time`, milliseconds since 1970."""
        for table in ("letters", "letters_sent_back"):
            connection.execute(f"DELETE FROM {table} WHERE time < ?", (time,))


def dead_letter_answer(kafka: KafkaConfig, seen: ConsumedMessage) -> DeadLetterAnswer:
    """Return what HTTP says of a message of dead-letters."""
    letter = letter_of(seen.message)
    refusal = reason_to_refuse(kafka, letter) or ""
    fields = {**letter.fields, "name": letter.name, "replays": letter.replays, "refusal": refusal}
    return msgspec.convert(fields, DeadLetterAnswer)
