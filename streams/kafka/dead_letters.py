"""Dead letters: messages that a stage set aside, with their reason and origin in the headers."""

from datetime import UTC, datetime

from confluent_kafka import Message

from streams.kafka.messages import headers


def read_dead_letter(message: Message) -> dict[str, str]:
    """Return a dead letter's path, reason, origin and time, from its key and headers."""
    told = {name: (value or b"").decode("utf-8", "replace") for name, value in headers(message)}
    key = message.key()
    path = bytes(key).decode("utf-8", "replace") if key is not None else ""
    names = ("stage", "topic", "partition", "offset", "error-type", "error-message")
    time = datetime.fromtimestamp(message.timestamp()[1] / 1000, UTC).isoformat(timespec="milliseconds")
    letter = {"relative_path": path} | {name.replace("-", "_"): told.get(name, "") for name in names}
    return letter | {"time": time}
