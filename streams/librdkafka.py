"""Settings of librdkafka from the environment: KAFKA_SASL_MECHANISM=PLAIN is sasl.mechanism=PLAIN."""

import logging
from collections.abc import Mapping
from typing import Final

from confluent_kafka import KafkaException, Producer

from imagetools.errors import ConfigError
from streams.settings import SETTINGS

log = logging.getLogger(__name__)

PREFIX: Final = "KAFKA_"

READ_BY_NAME: Final = {setting.name for setting in SETTINGS if setting.name.startswith(PREFIX)}
"""Variables with the prefix that are rows of streams/settings.py, not librdkafka's."""

EXACTLY_ONCE: Final = {
    "acks", "auto.offset.reset", "enable.auto.commit", "enable.auto.offset.store", "enable.idempotence",
    "enable.partition.eof", "group.id", "group.instance.id", "isolation.level", "message.send.max.retries",
    "partition.assignment.strategy", "partitioner", "request.required.acks", "retries", "transaction.timeout.ms",
    "transactional.id",
}  # fmt: skip
"""Settings that the user cannot change: exactly-once delivery, or the order of a path's records, depends on them."""

UNDERSCORED: Final = {"log.level": "log_level"}
"""Names of librdkafka that have an underscore."""

UNKNOWN: Final = "No such configuration property"
"""What librdkafka's error says of a name that it does not know."""


def from_env(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the settings of librdkafka in `environ`, by librdkafka's own names.

    ConfigError for a name in EXACTLY_ONCE, and for a value that librdkafka refuses.
    """
    settings: dict[str, str] = {}
    for variable, text in environ.items():
        if not variable.startswith(PREFIX) or variable in READ_BY_NAME:
            continue
        name = variable.removeprefix(PREFIX).lower().replace("_", ".")
        name = UNDERSCORED.get(name, name)
        if name in EXACTLY_ONCE:
            raise ConfigError(f"{variable}: {name} cannot be set, exactly-once delivery rests on it")
        if UNKNOWN in _refusal({name: text}):
            # Kubernetes injects such names for any service called kafka
            log.warning("%s is ignored: %s is no librdkafka setting", variable, name)
        else:
            settings[name] = text
    # all together: SASL_SSL alone is refused, since its default mechanism, Kerberos, is not built in
    if reason := _refusal(settings):
        raise ConfigError(_name_the_culprit(settings, reason))
    return settings


def _name_the_culprit(settings: Mapping[str, str], reason: str) -> str:
    for name, text in settings.items():
        if _refusal({name: text}) == reason:
            return f"{PREFIX}{name.upper().replace('.', '_')}: {reason}"
    return f"the {PREFIX} variables do not fit each other: {reason}"


def _refusal(settings: Mapping[str, str]) -> str:
    """Return why librdkafka refuses these settings; empty if it accepts them."""
    try:
        Producer(dict(settings), logger=_silent)
    except KafkaException as exc:
        return str(exc.args[0].str())
    return ""


_silent = logging.Logger("silent", logging.CRITICAL)  # hides librdkafka's warnings about an incomplete configuration
