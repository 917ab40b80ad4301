"""On three brokers with ACLs the documented rights are enough, a missing one is named, and a lost broker is left alone.

Rights come from streams/permissions.py, as docs/deploy.md shows them (tests/project/test_permissions.py).
"""

import json
import re
import signal
import time
from collections.abc import Callable
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from imagetools.errors import PrerequisiteMissing
from streams.config import KafkaConfig
from streams.kafka.admin import end_offsets, reach
from streams.kafka.clients import admin_client
from streams.kafka.probe import HUNG_UP
from streams.kafka.replay import read_letters
from streams.kafka.topic_facts import group_names, log_id, retention_ms
from streams.permissions import Operation
from streams.topics import DEAD_LETTERS, DUPLICATES, VERDICTS
from tests.support.bridging import eventually
from tests.support.cluster import ADMIN, Cluster
from tests.support.granted import (
    BRIDGE_FORGETS,
    EVENTS,
    PREFIX,
    SECOND_LOG,
    STAGES,
    assert_named,
    documented,
    grant,
    imagetools,
    service,
    without,
)
from tests.support.processes import start
from tests.support.streaming import Reader, group_pairs, pairs_of, scene, send_raw, write_groups
from tests.support.watching import ports_in_a_row

GROUPS = 6


def ask(port: int, method: str, path: str, body: Any = None) -> tuple[int, Any]:
    connection = HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request(method, path, None if body is None else json.dumps(body))
        answer = connection.getresponse()
        text = answer.read()
        return answer.status, json.loads(text) if text else None
    finally:
        connection.close()


def test_the_documented_rights_are_enough(topics, tmp_path):
    cluster, images = topics, tmp_path / "images"
    paths = write_groups(images, GROUPS)
    port = ports_in_a_row(1)
    with service(cluster, images, tmp_path, port):
        grant(cluster, "produce", "produce", "produce --wait", "produce --no-alert")
        grant(cluster, "watch")
        watch = start("watch", "--json", log=tmp_path / "watch", environ=cluster.environ("watch", PREFIX))
        watched = cluster.environ("produce", PREFIX) | {"IMAGES_DIR": str(images)}
        produce = start("produce", images, "--wait", log=tmp_path / "produce", environ=watched)
        assert f"{len(paths)} images announced" in produce.ends(0)
        (images / "bad.png").write_text("no image")
        (tmp_path / "list").write_text("bad.png\n")
        produce = start("produce", tmp_path / "list", "--wait", log=tmp_path / "produce 2", environ=watched)
        assert "dead letter" in produce.ends(3)
        reader = Reader(cluster.config(ADMIN, PREFIX), DUPLICATES, VERDICTS).settled(1)
        assert set(pairs_of(reader.seen["duplicates"])) == group_pairs(GROUPS)
        reader.close()
        watch.said("0 re-encoded.jpg")
        watch.said("dead_letter")

        # what is loaded silently, and found afterwards
        write_silent(images)
        silent = imagetools(cluster, "produce", "produce", images / "silent", "--no-alert", IMAGES_DIR=str(images))
        assert "the encoders have done all 2" in silent.stderr
        grant(cluster, "dedupe")
        assert "2 searched for" in imagetools(cluster, "dedupe", "dedupe").stderr
        for name in ("status", "index", "groups", "decide", "dead-letters list", "dead-letters show"):
            grant(cluster, name)
        grant(cluster, "dead-letters replay")
        status = imagetools(cluster, "status", "status").output
        assert "dead letters: 1" in status
        assert not re.search(r"no \w+ runs", status), status
        assert "answers" in imagetools(cluster, "index", "index", "--json").stdout
        eventually(lambda: "0.png" in imagetools(cluster, "groups", "groups").stdout)
        imagetools(cluster, "groups", "groups", "show", "0.png")
        imagetools(cluster, "decide", "decide", "0.png", "0 resized.jpg", "duplicate")
        listed = imagetools(cluster, "dead-letters list", "dead-letters", "list", "--json").stdout
        (letter,) = [json.loads(line) for line in listed.splitlines()]
        imagetools(cluster, "dead-letters show", "dead-letters", "show", letter["name"])
        replayed = imagetools(cluster, "dead-letters replay", "dead-letters", "replay", letter["name"])
        assert "1 dead letter replayed" in replayed.stderr
        watch.process.send_signal(signal.SIGINT)
        watch.ends(0)

        # over HTTP
        eventually(lambda: ask(port, "GET", "/readyz")[0] == 200)
        code, answer = ask(port, "POST", "/api-image-encoder", {"request_id": 1, "relative_path": "0.png"})
        assert code == 200, answer
        vector = answer["response"]["fingerprint"]
        code, answer = ask(port, "POST", "/api-contextual-search", {"nb_neighbors": 3, "vec_features": vector})
        assert code == 200, answer
        assert answer["response"]["neighbors"]
        match = {"candidate": "0.png", "neighbors": ["0 resized.jpg"]}
        code, answer = ask(port, "POST", "/api-instance-matching", match)
        assert code == 200, answer
        assert answer["response"]["duplicated"]
        assert ask(port, "POST", "/v1/images", {"relative_path": "1.png"})[0] in (200, 202)
        eventually(lambda: ask(port, "GET", "/v1/images/1.png")[0] == 200)
        code, answer = ask(port, "GET", "/v1/status")
        assert code == 200
        assert not answer["error_message"]
        assert ask(port, "GET", "/v1/groups")[0] == 200
        eventually(lambda: ask(port, "GET", "/v1/dead-letters")[1]["response"]["total"] == 2)
        code, answer = ask(port, "POST", "/v1/dead-letters/replay", {"letters": ["1"]})
        assert code in (200, 404), answer


def write_silent(images: Path) -> None:
    (images / "silent").mkdir()
    scene(500).save(images / "silent" / "a.png")
    scene(500).resize((180, 135)).save(images / "silent" / "b.png")


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"sasl.password": "wrong"}, "(SASL authentication error: Authentication failed"),
        ({"sasl.mechanism": "PLAIN"}, "Unsupported SASL mechanism"),
        ({"security.protocol": "SASL_PLAINTEXT"}, f"({HUNG_UP})"),
        ({"ssl.ca.location": ""}, "(SSL handshake failed: error"),
    ],
)
def test_who_cannot_log_in_hears_why(topics, changed, said):
    settings = {name: text for name, text in (topics.settings(ADMIN) | changed).items() if text}
    with pytest.raises(PrerequisiteMissing) as refusal:
        reach(KafkaConfig(topics.bootstrap, settings=settings))
    assert said in str(refusal.value)
    assert "the other KAFKA_ variables" in str(refusal.value)


def test_clients_that_have_known_a_broker_ask_others_when_it_is_lost(topics):
    kafka = topics.config(ADMIN, PREFIX)
    admin = admin_client(kafka)
    ends, identity = end_offsets(admin, kafka.topic(VERDICTS.name)), log_id(admin, kafka.topic(VERDICTS.name))
    assert retention_ms(admin, [kafka.topic(VERDICTS.name)])
    # the one that the client takes for the controller
    controller = admin.list_topics(timeout=10).controller_id
    (lost,) = [node for node in topics.nodes if node.number == controller]
    lost.kill()
    try:
        # until the others have taken over
        eventually(lambda: answered(lambda: end_offsets(admin, kafka.topic(VERDICTS.name))) == ends)
        began = time.monotonic()
        assert log_id(admin, kafka.topic(VERDICTS.name)) == identity
        assert retention_ms(admin, [kafka.topic(VERDICTS.name)])
        assert f"{PREFIX}encoder" in group_names(kafka)
        assert time.monotonic() - began < 5
    finally:
        topics.restart(lost)
        topics.wait()


def answered(call: Callable[[], Any]) -> Any:
    try:
        return call()
    except KafkaException:
        return None


# one right less

WORDS: dict[str, tuple[str, ...]] = {
    "topics create": ("topics", "create"),
    "reshard": ("reshard", "2"),
    "reencode": ("reencode", "--to", SECOND_LOG),
    "dedupe": ("dedupe",),
    "produce": ("produce", "list"),
    "produce --wait": ("produce", "list", "--wait"),
    "produce --no-alert": ("produce", "list", "--no-alert"),
    "produce --from-topic": ("produce", "--from-topic", EVENTS),
    "watch": ("watch",),
    "groups": ("groups",),
    "decide": ("decide", "a.png", "b.png", "duplicate"),
    "index": ("index",),
    "status": ("status",),
    "dead-letters list": ("dead-letters", "list"),
    "dead-letters show": ("dead-letters", "show", "0"),
    "dead-letters replay": ("dead-letters", "replay", "--type", "MissingImage", "--yes"),
}
BESIDES = {name: "produce" for name in WORDS if name.startswith("produce --")}
"""What a command with an option needs, too."""

IN_CI = {
    ("matcher", "Write on topic team.verdicts"),
    ("encoder", "Read on group team.encoder.requests"),
    ("grouping", "Write on transactional id team.grouping-*"),
    ("bridge", "Read on topic team.groups"),
    ("status", "Describe on group team.matcher"),
}


ELSEWHERE = {
    # used while searches run, and where the other model is there: tests/cluster/test_rarer_rights.py
    ("reshard", f"Write on transactional id {PREFIX}embeddings-reshard"),
    ("reencode", f"Create on topic {PREFIX}{SECOND_LOG}"),
    ("reencode", f"Write on transactional id {PREFIX}reencoder.{SECOND_LOG}-*"),
}


def cases(*names: str) -> list[Any]:
    found = [(name, right) for name in names for right in documented(name) if (name, str(right)) not in ELSEWHERE]
    return [
        pytest.param(name, right, id=f"{name} without {right}",
                     marks=[] if (name, str(right)) in IN_CI else [pytest.mark.long])
        for name, right in found
    ]  # fmt: skip


@pytest.mark.parametrize(("name", "right"), cases(*STAGES, "bridge"))
def test_a_process_that_lacks_a_right_names_it_and_ends(topics, tmp_path, name, right):
    (tmp_path / "images").mkdir()
    with without(topics, name, right, name):
        environ = topics.environ(name, PREFIX) | {
            "IMAGES_DIR": str(tmp_path / "images"), "INDEX_DIR": str(tmp_path / "index"), "MEMBER_NAME": f"{name}-0",
            "SERVER_PORT": str(ports_in_a_row(1)),
        }  # fmt: skip
        assert_named(topics, name, right, start(name, log=tmp_path / "log", environ=environ).ends(2, 60))


@pytest.mark.parametrize(("name", "right"), cases(*(name for name in WORDS if name != "topics create")))
def test_a_command_that_lacks_a_right_names_it_and_ends(topics, tmp_path, monkeypatch, name, right):
    (tmp_path / "list").write_text("a.png\n")
    letter_of(topics)
    monkeypatch.chdir(tmp_path)
    user = BESIDES.get(name, name)
    with without(topics, user, right, name, user):
        result = imagetools(topics, user, *WORDS[name], code=2, IMAGES_DIR=str(tmp_path))
    assert_named(topics, user, right, result.output)


@pytest.mark.parametrize(("name", "right"), cases("topics create"))
def test_topics_create_that_lacks_a_right_names_it_and_makes_the_rest_good_afterwards(topics, name, right):
    if right.operation is Operation.CREATE:
        admin = AdminClient(topics.config(ADMIN).client())
        admin.delete_topics([right.name])[right.name].result()
        eventually(lambda: right.name not in admin.list_topics(timeout=10).topics)
    with without(topics, name, right, name):
        assert_named(topics, name, right, imagetools(topics, name, *WORDS[name], code=2).output)
    imagetools(topics, name, *WORDS[name])


def test_a_bridge_goes_on_without_the_rights_of_its_two_purposes_and_says_so(topics, tmp_path):
    # a user without the rows of a purpose: the letters cannot go back, and nothing is forgotten
    port = ports_in_a_row(1)
    grant(topics, "bridge")
    others = [*documented("bridge, to send dead letters back"), *documented(BRIDGE_FORGETS)]
    ours = set(documented("bridge"))
    topics.withdraw_all("bridge", [right for right in others if right not in ours])
    letter = letter_of(topics)
    environ = topics.environ("bridge", PREFIX) | {"SERVER_PORT": str(port)}
    bridge = start("bridge", log=tmp_path / "log", environ=environ)
    eventually(lambda: answers(port) and ask(port, "GET", "/readyz")[0] == 200)
    status, answer = ask(port, "POST", "/v1/dead-letters/replay", {"letters": [letter]})
    assert status == 503
    assert f"Write on transactional id {PREFIX}dead-letters-replay" in answer["error_message"]
    assert f"Write on topic {PREFIX}candidates" in answer["error_message"]
    bridge.said(f"DescribeConfigs on {PREFIX}")
    bridge.process.send_signal(signal.SIGTERM)
    bridge.ends(0)


def answers(port: int) -> bool:
    try:
        ask(port, "GET", "/healthz")
    except OSError:
        return False
    return True


def letter_of(cluster: Cluster) -> str:
    """Set a message aside that can be sent back; its name."""
    headers = [("stage", b"encoder"), ("topic", f"{PREFIX}images.new".encode()), ("partition", b"0"), ("offset", b"0"),
               ("error-type", b"MissingImage"), ("error-message", b"a test's own")]  # fmt: skip
    send_raw(cluster.config(ADMIN, PREFIX), DEAD_LETTERS, [(b"a.png", b"no record")], headers=headers)
    (*_, last) = read_letters(cluster.config(ADMIN, PREFIX))
    return last.name
