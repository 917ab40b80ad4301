"""What is read of a message."""

from confluent_kafka import Message

from streams.kafka.messages import announced_headers
from streams.topics import ANNOUNCED_AT, ANNOUNCED_IN, REPLAYED, REPLAYED_LETTER


def test_headers_of_stages_and_of_replays_are_no_producers_headers() -> None:
    ours = [(name, b"1") for name in (ANNOUNCED_AT, ANNOUNCED_IN, REPLAYED, REPLAYED_LETTER)]
    message = Message(topic="alerts", headers=[("trace", b"a"), *ours, ("trace", b"b"), ("seller", b"\xff")])
    assert announced_headers(message) == {"trace": "b", "seller": "�"}
