"""What this process may do on a cluster with ACLs: which rights are missing, and a sentence that names them."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Final

from confluent_kafka import KafkaError, KafkaException, TopicCollection
from confluent_kafka.admin import AdminClient

from imagetools.errors import ImageToolsError
from streams.config import KafkaConfig
from streams.kafka.clients import admin_client
from streams.kafka.errors import UNREACHABLE
from streams.permissions import Operation, Resource, Right, rights_of

TIMEOUT_S: Final = 5.0

REFUSALS: Final = {
    KafkaError.TOPIC_AUTHORIZATION_FAILED,
    KafkaError.GROUP_AUTHORIZATION_FAILED,
    KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED,
    KafkaError.CLUSTER_AUTHORIZATION_FAILED,
}
"""Errors of a cluster that does not let this process do something."""

NO_COORDINATOR: Final = (
    "the cluster answers, but not yet about consumer groups. Where that lasts, its topic __consumer_offsets cannot be "
    "made, as with offsets.topic.replication.factor above the number of brokers; the brokers' logs say why"
)


class PermissionMissing(ImageToolsError):
    """The cluster does not let this process do what it has to; the message names the user and each missing right."""


def require_rights(kafka: KafkaConfig, *names: str, **placeholders: str) -> None:
    """Raise PermissionMissing where a right that can be asked about is missing.

    names, placeholders  as `rights_of` takes them
    Rights to create what is not there yet, and those on transactional ids, show when they are used. A cluster without
    ACLs, or one that does not say what a user may do, grants all. KafkaException where it does not answer in time. A
    cluster that has just started often does not, so commands repeat the question with `until_ready`.
    """
    if missing := missing_rights(kafka, rights_of(kafka, *names, **placeholders)):
        raise PermissionMissing(_sentence(kafka, missing))


@contextmanager
def explained(kafka: KafkaConfig, *names: str, **placeholders: str) -> Iterator[None]:
    """Turn a refusal of the cluster into PermissionMissing with the rights that are missing now.

    Where none is, the error stays as it is: the right may have come meanwhile.
    """
    try:
        yield
    except KafkaException as exc:
        error: KafkaError = exc.args[0]
        if error.code() not in REFUSALS:
            raise
        rights = rights_of(kafka, *names, **placeholders)
        try:
            missing = missing_rights(kafka, rights)
        except KafkaException:
            missing = []
        if error.code() == KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED or not missing:
            missing += _suspects(error, rights)
        if not missing:
            raise
        raise PermissionMissing(_sentence(kafka, missing)) from exc


def missing_rights(kafka: KafkaConfig, rights: Iterable[Right]) -> list[Right]:
    """Return those of the rights on topics and groups that the cluster does not grant. KafkaException."""
    asked = [right for right in rights if right.operation is not Operation.CREATE]
    topics = [right for right in asked if right.resource is Resource.TOPIC]
    groups = [right for right in asked if right.resource is Resource.GROUP]
    admin = admin_client(kafka)
    granted = {Resource.TOPIC: _on_topics(admin, topics), Resource.GROUP: _on_groups(admin, groups)}
    return [right for right in (*topics, *groups) if _lacks(right, granted[right.resource].get(right.name))]


def _lacks(right: Right, granted: set[Operation] | None) -> bool:
    return granted is not None and right.operation not in granted


def _on_topics(admin: AdminClient, rights: Iterable[Right]) -> dict[str, set[Operation] | None]:
    names = list(dict.fromkeys(right.name for right in rights))
    if not names:
        return {}
    answers = admin.describe_topics(
        TopicCollection(names), include_authorized_operations=True, request_timeout=TIMEOUT_S
    )
    return {name: _granted(answer) for name, answer in answers.items()}


def _on_groups(admin: AdminClient, rights: Iterable[Right]) -> dict[str, set[Operation] | None]:
    names = list(dict.fromkeys(right.name for right in rights))
    if not names:
        return {}
    answers = admin.describe_consumer_groups(names, include_authorized_operations=True, request_timeout=TIMEOUT_S)
    try:
        return {name: _granted(answer) for name, answer in answers.items()}
    except KafkaException as exc:
        if exc.args[0].code() != KafkaError._TIMED_OUT:
            raise
        # a cluster makes the topic of groups when it is first asked about one
        error = KafkaError(KafkaError.COORDINATOR_NOT_AVAILABLE, NO_COORDINATOR)
        raise KafkaException(error) from exc


def _granted(answer: Any) -> set[Operation] | None:
    """Return the operations that are granted; None where the cluster does not say."""
    try:
        operations = answer.result().authorized_operations
    except KafkaException as exc:
        if exc.args[0].code() in REFUSALS:
            return set()
        if exc.args[0].code() in UNREACHABLE:
            raise
        # a topic or a group that does not exist says nothing about rights
        return None
    if operations is None:
        return None
    return {Operation[operation.name] for operation in operations if operation.name in Operation.__members__}


def _suspects(error: KafkaError, rights: Iterable[Right]) -> list[Right]:
    """Return the rights of which one is missing, though the cluster does not say which.

    It says nothing about transactional ids, nor about a group that nobody has used yet.
    """
    resource = {
        KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED: Resource.TRANSACTIONAL_ID,
        KafkaError.GROUP_AUTHORIZATION_FAILED: Resource.GROUP,
    }.get(error.code())
    return [right for right in rights if right.resource is resource]


def refusal(kafka: KafkaConfig, *missing: Right) -> PermissionMissing:
    """Return the exception that names these rights."""
    return PermissionMissing(_sentence(kafka, missing))


def _sentence(kafka: KafkaConfig, missing: Iterable[Right]) -> str:
    rights = "; ".join(dict.fromkeys(map(str, missing)))
    return (
        f"{user_of(kafka)} may not do what this needs on {kafka.bootstrap}. Missing: {rights}. An administrator of the "
        "cluster can grant it; docs/deploy.md lists the permissions of each process"
    )


def user_of(kafka: KafkaConfig) -> str:
    """Name the user that the cluster sees, as far as the settings say."""
    if name := kafka.settings.get("sasl.username") or kafka.settings.get("sasl.kerberos.principal"):
        return f"User:{name}"
    if certificate := kafka.settings.get("ssl.certificate.location"):
        return f"The user of the certificate {certificate}"
    return "The user of this process"
