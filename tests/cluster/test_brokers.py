"""Brokers that are killed while images are under way: nothing is lost or doubled, and who waits says for what."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest

from cli.announcing.announce import announce
from streams.config import KafkaConfig
from streams.kafka.admin import create_topics, delete_topics
from streams.permissions import rights_of
from streams.topics import DUPLICATES, GROUPS, VERDICTS
from tests.support.bridging import eventually
from tests.support.cluster import ADMIN, Cluster
from tests.support.granted import user_of
from tests.support.members import Member
from tests.support.streaming import Reader, group_pairs, pairs_of, write_groups

STAGES = ("encoder", "search", "matcher", "grouping")
PREFIX = "killed."
SCENES = 30


@contextmanager
def service(cluster: Cluster, folder: Path) -> Iterator[list[Member]]:
    """One process of each stage, as users with the documented rights; started again when one ends."""
    members = []
    for stage in STAGES:
        cluster.grant(user_of(stage), rights_of(KafkaConfig(prefix=PREFIX), stage))
        environ = os.environ | cluster.environ(stage, PREFIX) | {
            "IMAGES_DIR": str(folder / "images"), "INDEX_DIR": str(folder / "index"),
            "FEATURES_DIR": str(folder / "features"), "MEMBER_NAME": f"{stage}-0",
        }  # fmt: skip
        members.append(Member(stage, stage, environ, folder / f"{stage}.log"))
    try:
        for one in members:
            one.tend()
        yield members
    finally:
        codes = [one.stop() for one in members]
    assert codes == [0] * len(members), [one.log.read_text()[-2000:] for one in members]


def said_since(member: Member, begin: int, text: str) -> bool:
    """Whether a process has said this since its log had that length."""
    member.tend()
    return text in member.log.read_text()[begin:]


def read_until(reader: Reader, members: list[Member], verdicts: int, whole_groups: int = 0) -> None:
    """Read until there are as many verdicts, and as many groups of three."""

    def tended(seen: Reader) -> bool:
        for one in members:
            one.tend()
        whole = {group.id for group in seen.seen["groups"] if group and group.member_count == 3}
        return len(seen.seen["verdicts"]) >= verdicts and len(whole) >= whole_groups

    reader.until(tended)


@pytest.fixture
def paths(cluster: Cluster, tmp_path: Path) -> Iterator[list[str]]:
    """Images, and the topics for them."""
    kafka = cluster.config(ADMIN, PREFIX)
    create_topics(kafka, replication=3)
    yield write_groups(tmp_path / "images", SCENES)
    delete_topics(kafka)


@pytest.mark.long
def test_a_killed_broker_loses_nothing_and_doubles_nothing(cluster, paths, tmp_path):
    kafka = cluster.config(ADMIN, PREFIX)
    reader = Reader(kafka, VERDICTS, DUPLICATES, GROUPS)
    with service(cluster, tmp_path) as members:
        announce(kafka, paths[:30])
        read_until(reader, members, 10)
        # one in mid-stream, which comes back
        cluster.nodes[0].kill()
        announce(kafka, paths[30:60], first=31)
        read_until(reader, members, 60)
        cluster.restart(cluster.nodes[0])
        cluster.wait()
        announce(kafka, paths[60:], first=61)
        read_until(reader, members, len(paths), SCENES)
        reader.settled(3)
    assert_once(reader, paths)


@pytest.mark.long
def test_with_two_of_three_brokers_gone_stages_wait_and_say_for_what_and_go_on_with_one_back(cluster, paths, tmp_path):
    kafka = cluster.config(ADMIN, PREFIX)
    reader = Reader(kafka, VERDICTS, DUPLICATES, GROUPS)
    with service(cluster, tmp_path) as members:
        announce(kafka, paths[:60])
        read_until(reader, members, 10)
        # no batch can commit
        for node in cluster.nodes[1:]:
            node.kill()
        logs = {one.name: one.log.stat().st_size for one in members}
        for one in members:
            eventually(partial(said_since, one, logs[one.name], "waits: 2 of 3 brokers of Kafka do not answer"))
        cluster.restart(cluster.nodes[1])
        announce(kafka, paths[60:], first=61)
        read_until(reader, members, len(paths), SCENES)
        cluster.restart(cluster.nodes[2])
        cluster.wait()
        reader.settled(3)
    assert_once(reader, paths)


def assert_once(reader: Reader, paths: list[str]) -> None:
    """One verdict for each image, and each pair once."""
    assert sorted(v.request_id for v in reader.seen["verdicts"]) == list(range(1, len(paths) + 1))
    reported = pairs_of(reader.seen["duplicates"])
    assert len(reported) == len(set(reported)), "no pair twice"
    assert set(reported) == group_pairs(SCENES)
    reader.close()
