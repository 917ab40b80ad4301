"""The curl commands of the README and of docs/http.md, run from their text against a bridge and the stages."""

import json
import re
import shutil
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from streams import grouping_consumer
from streams.config import BridgeConfig, Config, KafkaConfig
from streams.kafka.admin import create_topics, delete_topics
from streams.topics import VERDICTS
from tests.support.bridging import ENCODER, Bridge, answering, bridge, eventually, stages
from tests.support.streaming import Reader, running, scene

ROOT = Path(__file__).resolve().parents[2]
README = ROOT / "README.md"
PAGE = ROOT / "docs" / "http.md"


def commands(text: str) -> list[str]:
    """The curl commands of a text's shell blocks, without the comments behind them."""
    shells = "\n".join(re.findall(r"```sh\n(.*?)```", text, re.DOTALL))
    return [re.sub(r"\s+#.*", "", line) for line in shells.splitlines() if line.startswith("curl ")]


COMMANDS = commands(PAGE.read_text("utf-8"))


@pytest.fixture(scope="module")
def service(bootstrap: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Bridge, Path]]:
    folder = tmp_path_factory.mktemp("readme")
    images = folder / "images"
    images.mkdir()
    scene(0).save(images / "a.jpg", quality=95)
    scene(0).save(images / "b.jpg", quality=70)
    scene(1).save(images / "c.jpg")
    scene(0).resize((180, 135)).save(folder / "mine.jpg")
    kafka = KafkaConfig(bootstrap, prefix=f"test-{uuid.uuid4().hex[:12]}.", member="test")
    create_topics(kafka)
    config = Config(kafka=kafka, images_dir=images, source_dir=images, target_dir=images, index_dir=folder / "index")
    grouping = grouping_consumer.make(config)
    three = stages(kafka, images, folder / "index")
    with answering(kafka, *three), running(grouping, kafka=kafka), bridge(kafka, folder) as found:
        found.wait_ready()
        for number, path in enumerate(["a.jpg", "b.jpg", "c.jpg"], 1):
            assert found.post("/v1/images", {"relative_path": path}).status == 202
            reader = Reader(kafka, VERDICTS).until(lambda r, n=number: len(r.seen["verdicts"]) == n)  # type: ignore[misc]
            reader.close()
        eventually(lambda: found.get("/v1/images/b.jpg").json["response"].get("state") == "duplicate")
        yield found, folder
    delete_topics(kafka)


def run(command: str, service: tuple[Bridge, Path], limit_s: float = 30) -> str:
    """What a shell makes of it: with the ports that the bridge has here, and a whole fingerprint for […, …]."""
    found, folder = service
    for documented, here in zip(BridgeConfig().contract_ports, found.ports, strict=True):
        command = command.replace(f"127.0.0.1:{documented}", f"127.0.0.1:{here}")
    if "…" in command:
        vector = found.post(ENCODER, {"request_id": 1, "relative_path": "a.jpg"}).json["response"]["fingerprint"]
        command = re.sub(r"\[[^\]]*…\]", json.dumps(vector), command)
    assert shutil.which("curl"), "the README's clients are curl"
    options = f"curl --silent --show-error --fail-with-body --max-time {limit_s} "
    made = subprocess.run(
        ["sh", "-c", command.replace("curl ", options, 1)], cwd=folder, capture_output=True, check=False
    )
    # 28: the stream of alerts goes on until its time is up
    assert made.returncode in ({28} if "stream" in command else {0}), made.stderr.decode() + made.stdout.decode()
    return made.stdout.decode()


def served(command: str, service: tuple[Bridge, Path]) -> Any:
    answer = json.loads(run(command, service))
    assert answer["global_status"] == 1
    return answer["response"]


def the(*words: str) -> str:
    (found,) = [command for command in COMMANDS if all(word in command for word in words)]
    return found


def test_there_is_a_client_for_every_endpoint() -> None:
    assert len(COMMANDS) == 16


def test_the_readme_shows_some_of_them() -> None:
    shown = commands(README.read_text("utf-8"))
    assert len(shown) == 7
    assert set(shown) <= set(COMMANDS)


def test_the_encoder(service: tuple[Bridge, Path]) -> None:
    response = served(the("api-image-encoder"), service)
    assert response["request_id"] == 1
    assert len(response["fingerprint"]) == 512


def test_the_search(service: tuple[Bridge, Path]) -> None:
    neighbors = served(the("api-contextual-search"), service)["neighbors"]
    assert [one["relative_path"] for one in neighbors] == ["a.jpg", "b.jpg"]


def test_the_matcher(service: tuple[Bridge, Path]) -> None:
    assert [one["relative_path"] for one in served(the("api-instance-matching"), service)["duplicated"]] == ["b.jpg"]


def test_an_image_of_ones_own(service: tuple[Bridge, Path]) -> None:
    found = served(the("v1/duplicates", "mine.jpg"), service)["duplicated"]
    assert {one["relative_path"] for one in found} == {"a.jpg", "b.jpg"}


def test_groups_and_decisions(service: tuple[Bridge, Path]) -> None:
    eventually(lambda: served(the("v1/groups?"), service)["groups"])
    (group,) = served(the("v1/groups?"), service)["groups"]
    shown = PAGE.read_text("utf-8").partition(the("v1/groups?") + "\n# ")[2].partition("\n")[0].replace(", …", "")
    (listed,) = json.loads(shown)["response"]["groups"]
    assert {name: group[name] for name in listed} == listed
    assert [one["relative_path"] for one in served(the("v1/groups/a.jpg"), service)["members"]] == ["a.jpg", "b.jpg"]
    (made,) = served(the("v1/decisions -d", '"keep"'), service)["decisions"]
    assert (made["decision"], made["who"]) == ("duplicate", "Ann")
    # the stage takes it: the group waits no more
    eventually(lambda: served(the("v1/groups?"), service)["groups"] == [])
    assert served(the("v1/decisions?path"), service)["decisions"] == [made]
    (undone,) = served(the("v1/decisions -d", "null"), service)["decisions"]
    assert (undone["decision"], undone["id"]) == (None, made["id"])
    eventually(lambda: served(the("v1/groups?"), service)["groups"])


def test_announcing_and_removing_and_what_became_of_it(service: tuple[Bridge, Path]) -> None:
    (asked,) = [command for command in COMMANDS if command.endswith("/v1/images/b.jpg") and "DELETE" not in command]
    found = served(asked, service)
    assert found["state"] == "duplicate"
    # as the page shows it
    shown = json.loads(PAGE.read_text("utf-8").partition(asked + "\n# ")[2].partition("\n")[0].replace("…, ", ""))[
        "response"
    ]
    assert shown["duplicated"] == found["duplicated"]
    assert {name: found[name] for name in shown} == shown
    assert served(the("v1/images", "-d"), service)["relative_path"] == "b.jpg"
    assert served(asked, service)["state"] in ("waiting", "clear", "duplicate")
    run(the("v1/pictures"), service)
    with Image.open(service[1] / "small.jpg") as small:
        assert (small.format, max(small.size)) == ("JPEG", 240)
    assert served(the("v1/images", "DELETE"), service)["relative_path"] == "b.jpg"
    assert served(asked, service)["state"] == "removed"


def test_alerts_as_they_come(service: tuple[Bridge, Path]) -> None:
    told = run(the("stream"), service, limit_s=2)
    events = [dict(line.split(": ", 1) for line in event.splitlines()) for event in told.split("\n\n") if event]
    assert {"alert", "group", "decision"} <= {event.get("event") for event in events}
    alerts = [json.loads(event["data"]) for event in events if event.get("event") == "alert"]
    assert [(alert["candidate"], alert["duplicated"][0]["relative_path"]) for alert in alerts] == [("b.jpg", "a.jpg")]


def test_a_dead_letter_is_listed_and_sent_back(service: tuple[Bridge, Path]) -> None:
    found, folder = service
    late = folder / "images" / "late.jpg"
    late.write_text("not yet an image")
    assert found.post("/v1/images", {"relative_path": "late.jpg"}).status == 202
    (letter,) = eventually(lambda: served(the("dead-letters?"), service)["letters"])
    assert (letter["name"], letter["relative_path"], letter["refusal"]) == ("0", "late.jpg", "")
    scene(5).save(late)
    assert served(the("dead-letters/replay"), service) == {"sent": ["0"], "sent_before": [], "refused": []}
    eventually(lambda: found.get("/v1/images/late.jpg").json["response"].get("state") == "clear")
    eventually(lambda: served(the("dead-letters?"), service)["letters"] == [])
