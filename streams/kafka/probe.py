"""Asks whether a cluster answers and, where it does not, why not."""

from typing import Final

from confluent_kafka import Consumer, KafkaError
from confluent_kafka.admin import ClusterMetadata  # type: ignore[attr-defined]

from streams.config import KafkaConfig
from streams.kafka.errors import no_answer, told

TELLING: Final = (KafkaError._AUTHENTICATION, KafkaError._SSL, KafkaError._RESOLVE)
"""Errors that say what is wrong with the settings, the most telling first."""

HUNG_UP: Final = "it ends the connection, as a broker does that expects another KAFKA_SECURITY_PROTOCOL"
"""librdkafka has no error of its own for that."""


class ClusterProbe:
    """A client that only asks whether the cluster answers."""

    def __init__(self, kafka: KafkaConfig, name: str) -> None:
        """name: what it is for; it has no effect."""
        self._kafka = kafka
        self._errors: dict[int, str] = {}
        self._client = Consumer(kafka.client(group_id=kafka.topic(name)) | {"error_cb": self._note})

    def ask(self, timeout_s: float, topic: str = "") -> ClusterMetadata:
        """Return what the cluster says of itself and of the topic, or of all topics. KafkaException."""
        ask = self._client.list_topics
        found: ClusterMetadata = ask(topic, timeout=timeout_s) if topic else ask(timeout=timeout_s)
        self._errors.clear()
        return found

    def no_answer(self) -> str:
        """Say that the cluster does not answer and, as far as the client knows, why."""
        return no_answer(self._kafka, self.reason())

    def reason(self) -> str:
        """Return what the settings have to do with it; empty where nothing is known."""
        # calls _note for what has come since
        self._client.poll(0)
        for code in TELLING:
            if text := self._errors.get(code):
                return text
        transport = self._errors.get(KafkaError._TRANSPORT, "")
        if transport.startswith("SSL"):
            return transport
        return HUNG_UP if KafkaError._ALL_BROKERS_DOWN in self._errors and not transport else ""

    def close(self) -> None:
        """Close the connection."""
        self._client.close()

    def _note(self, error: KafkaError) -> None:
        self._errors[error.code()] = told(error)
