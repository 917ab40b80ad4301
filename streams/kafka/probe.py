"""Asks whether a cluster answers and, where it does not, why not."""

import time
from collections import deque
from typing import Final

from confluent_kafka import Consumer, KafkaError
from confluent_kafka.admin import ClusterMetadata  # type: ignore[attr-defined]

from streams.config import KafkaConfig
from streams.kafka.errors import no_answer, told

TELLING: Final = (KafkaError._AUTHENTICATION, KafkaError._SSL, KafkaError._RESOLVE)
"""Errors that say what is wrong with the settings, the most telling first."""

REASON_S: Final = 0.5
"""How long the first errors may take to come, after a connection has failed."""

POLL_S: Final = 0.05
MAX_ERRORS: Final = 100

HUNG_UP: Final = "it ends the connection, as a broker does that expects another KAFKA_SECURITY_PROTOCOL"
"""librdkafka has no error of its own for that."""


class ClusterProbe:
    """A client that only asks whether the cluster answers."""

    def __init__(self, kafka: KafkaConfig, name: str) -> None:
        """name: what it is for; it has no effect."""
        self._kafka = kafka
        self._errors: deque[KafkaError] = deque(maxlen=MAX_ERRORS)
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
        deadline = time.monotonic() + REASON_S
        while not (found := self._telling()) and time.monotonic() < deadline:
            # calls _note for what has come since
            self._client.poll(POLL_S)
        codes = {error.code() for error in self._errors}
        hung_up = KafkaError._ALL_BROKERS_DOWN in codes and KafkaError._TRANSPORT not in codes
        return found or (HUNG_UP if hung_up else "")

    def close(self) -> None:
        """Close the connection."""
        self._client.close()

    def _telling(self) -> str:
        said = [(error.code(), told(error)) for error in self._errors]
        for code in TELLING:
            if texts := [text for found, text in said if found == code]:
                return texts[-1]
        # what a handshake ends with may be an error of the transport, too
        return next((text for _, text in said if text.startswith("SSL")), "")

    def _note(self, error: KafkaError) -> None:
        self._errors.append(error)
