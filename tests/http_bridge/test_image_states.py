"""What became of an announced image, as the bridge's view of the topics tells it over HTTP."""

import random
import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from confluent_kafka.admin import AdminClient

from http_bridge.errors import HttpError
from http_bridge.image_state import ImageState
from http_bridge.image_states import ImageStates
from http_bridge.image_tables import ImageTables
from http_bridge.topic_view import TopicView
from http_bridge.view_file import FILE
from imagetools.errors import ConfigError
from local_kafka.ports import free_ports
from schemas.records import Duplicate, Duplicates, ImageNew, Similar, Verdict, VerdictOutcome
from streams.config import KafkaConfig
from streams.kafka.admin import create_topics
from streams.kafka.follower import ConsumedMessage
from streams.topics import DEAD_LETTERS, DUPLICATES, IMAGES_NEW, VERDICTS
from tests.support.bridging import Bridge, answering, bridge, eventually, stages
from tests.support.streaming import Reader, scene, send, send_raw, write_groups

TOLD = {"sku": "4711", "shop": "Zoë & Söhne"}


def now() -> int:
    return int(time.time() * 1000)


@contextmanager
def following(kafka: KafkaConfig, folder: Path | None) -> Iterator[tuple[TopicView, ImageStates]]:
    """A view that is being read."""
    tables = ImageTables()
    with closing(TopicView(kafka, folder, [tables])) as topics:
        topics.start()
        yield topics, ImageStates(topics, tables)


@contextmanager
def view(kafka: KafkaConfig, folder: Path | None = None) -> Iterator[ImageStates]:
    with following(kafka, folder) as (topics, states):
        eventually(lambda: not topics.trouble)
        yield states


def state_of(states: ImageStates, path: str, state: str) -> ImageState:
    """The image's state, once it is that one."""
    eventually(lambda: (found := states.state(path)) is not None and found.state == state)
    found = states.state(path)
    assert found is not None
    return found


def test_each_state_is_reported(kafka, tmp_path):
    with view(kafka, tmp_path / "view") as states:
        assert states.state("a.jpg") is None
        send(kafka, IMAGES_NEW, [("a.jpg", ImageNew(5, "a.jpg"))])
        found = state_of(states, "a.jpg", "waiting")
        assert found.request_id == 5
        assert found.announced
        assert found.decided is None
        send(kafka, VERDICTS, [("a.jpg", Verdict(5, "a.jpg", VerdictOutcome.CLEAR))])
        assert state_of(states, "a.jpg", "clear").decided
        assert state_of(states, "a.jpg", "clear").similar == []

        send(kafka, IMAGES_NEW, [("b.jpg", ImageNew(6, "b.jpg"))])
        one = Duplicate("a.jpg", 0.987654, 20, 0.9, edit="mirrored", points=((0.1, 0.2, 0.3, 0.4),), relation="crop")
        send(kafka, DUPLICATES, [("b.jpg", Duplicates(6, "b.jpg", (one,)))])
        send(kafka, VERDICTS, [("b.jpg", Verdict(6, "b.jpg", VerdictOutcome.DUPLICATE))])
        (duplicate,) = state_of(states, "b.jpg", "duplicate").duplicated
        assert (duplicate.relative_path, duplicate.score, duplicate.edit) == ("a.jpg", 0.9877, "mirrored")
        assert duplicate.relation == "crop"

        send(kafka, IMAGES_NEW, [("c.jpg", ImageNew(7, "c.jpg"))])
        send(
            kafka, VERDICTS, [("c.jpg", Verdict(7, "c.jpg", VerdictOutcome.DEAD_LETTER, "MissingImage: no such file"))]
        )
        assert state_of(states, "c.jpg", "dead_letter").reason == "MissingImage: no such file"

        send(kafka, IMAGES_NEW, [("a.jpg", ImageNew(8, "a.jpg", metadata=TOLD))])
        assert state_of(states, "a.jpg", "waiting").metadata == TOLD
        send(kafka, IMAGES_NEW, [("a.jpg", None)])
        found = state_of(states, "a.jpg", "removed")
        assert (found.request_id, found.metadata) == (None, {})


@pytest.mark.parametrize("outcome", [VerdictOutcome.CLEAR, VerdictOutcome.DUPLICATE])
def test_images_that_are_alike_are_in_the_state(kafka, outcome):
    alike = Similar("a.jpg", "template", "same template, other content", 0.01, ((0.0, 0.1, 0.2, 0.3) * 2,))
    with view(kafka) as states:
        send(kafka, DUPLICATES, [("b.jpg", Duplicates(6, "b.jpg", (Duplicate("c.jpg", 0.9),)))])
        send(kafka, VERDICTS, [("b.jpg", Verdict(6, "b.jpg", outcome, similar=(alike,)))])
        (similar,) = state_of(states, "b.jpg", outcome.value).similar
        assert (similar.relative_path, similar.relation) == ("a.jpg", "template")
        assert (similar.reason, similar.score) == ("same template, other content", 0.01)
        send(kafka, VERDICTS, [("b.jpg", Verdict(7, "b.jpg", VerdictOutcome.CLEAR))])
        eventually(lambda: (found := states.state("b.jpg")) is not None and not found.similar)


def test_a_verdict_of_an_earlier_announcement_does_not_answer_for_a_later_one(kafka):
    with view(kafka) as states:
        old = now() - 60_000
        send(kafka, IMAGES_NEW, [("a.jpg", ImageNew(1, "a.jpg"))], timestamp=old)
        send(kafka, VERDICTS, [("a.jpg", Verdict(1, "a.jpg", VerdictOutcome.CLEAR))], timestamp=old + 50)
        state_of(states, "a.jpg", "clear")
        # by the same number, as producers do that do not count
        send(kafka, IMAGES_NEW, [("a.jpg", ImageNew(1, "a.jpg"))])
        state_of(states, "a.jpg", "waiting")
        send(kafka, VERDICTS, [("a.jpg", Verdict(1, "a.jpg", VerdictOutcome.CLEAR))])
        state_of(states, "a.jpg", "clear")
        # the verdict of one that was overtaken
        send(kafka, IMAGES_NEW, [("a.jpg", ImageNew(2, "a.jpg"))])
        send(kafka, IMAGES_NEW, [("a.jpg", ImageNew(3, "a.jpg"))])
        send(kafka, VERDICTS, [("a.jpg", Verdict(2, "a.jpg", VerdictOutcome.CLEAR))])
        send(kafka, VERDICTS, [("mark", Verdict(0, "mark", VerdictOutcome.CLEAR))])
        state_of(states, "mark", "clear")
        assert state_of(states, "a.jpg", "waiting").request_id == 3


def test_an_announcement_that_could_not_be_read_is_a_dead_letter_by_its_key(kafka):
    with view(kafka) as states:
        send_raw(kafka, IMAGES_NEW, [(b"a.jpg", b"nonsense"), (b"\xff", b"nonsense")])
        state_of(states, "a.jpg", "waiting")
        send(kafka, VERDICTS, [("a.jpg", Verdict(None, "a.jpg", VerdictOutcome.DEAD_LETTER, "MessageError: nonsense"))])
        assert state_of(states, "a.jpg", "dead_letter").request_id is None


def test_topics_may_be_read_in_any_order(kafka):
    """Verdicts and alerts that were read before their announcement belong to it all the same."""
    send(kafka, IMAGES_NEW, [(f"{n}.jpg", ImageNew(n, f"{n}.jpg")) for n in range(300)])
    send(
        kafka, DUPLICATES, [(f"{n}.jpg", Duplicates(n, f"{n}.jpg", (Duplicate("0.jpg", 0.9),))) for n in range(1, 300)]
    )
    numbers = list(range(300))
    random.Random(1).shuffle(numbers)
    send(kafka, VERDICTS, [(f"{n}.jpg", Verdict(n, f"{n}.jpg", VerdictOutcome.DUPLICATE)) for n in numbers if n])
    with view(kafka) as states:
        found = [states.state(f"{n}.jpg") for n in range(300)]
        assert [one.state for one in found if one] == ["waiting"] + ["duplicate"] * 299
        assert all(one and one.duplicated for one in found[1:])


def test_it_goes_on_at_its_offsets_and_starts_again_for_other_topics(kafka, tmp_path, caplog):
    folder = tmp_path / "view"
    send(kafka, IMAGES_NEW, [(f"{n}.jpg", ImageNew(n, f"{n}.jpg")) for n in range(50)])
    with view(kafka, folder) as states:
        assert states.state("7.jpg") is not None
    # what the log no longer holds is still known, so it was not read again
    admin = AdminClient(kafka.client())
    _delete_records(admin, kafka.topic(IMAGES_NEW.name))
    send(kafka, IMAGES_NEW, [("new.jpg", ImageNew(9, "new.jpg"))])
    with view(kafka, folder) as states:
        assert states.state("new.jpg") is not None
        assert states.state("7.jpg") is not None
    name = kafka.topic(IMAGES_NEW.name)
    admin.delete_topics([name])[name].result()
    eventually(lambda: _made_again(kafka))
    with view(kafka, folder) as states:
        assert states.state("7.jpg") is None


def _delete_records(admin: AdminClient, topic: str) -> None:
    from confluent_kafka import TopicPartition  # noqa: PLC0415

    ends = [TopicPartition(topic, n, -1) for n in range(IMAGES_NEW.partitions)]
    for done in admin.delete_records(ends).values():
        done.result()


def _made_again(kafka: KafkaConfig) -> bool:
    return kafka.topic(IMAGES_NEW.name) in create_topics(kafka, topics=[IMAGES_NEW])


def test_a_topic_that_is_made_again_while_it_follows_is_noticed(kafka, monkeypatch):
    monkeypatch.setattr("http_bridge.topic_view.CHECK_EVERY_S", 0.2)
    send(kafka, IMAGES_NEW, [("a.jpg", ImageNew(1, "a.jpg"))])
    with following(kafka, None) as (topics, states):
        state_of(states, "a.jpg", "waiting")
        admin, name = AdminClient(kafka.client()), kafka.topic(IMAGES_NEW.name)
        admin.delete_topics([name])[name].result()
        eventually(lambda: _made_again(kafka))
        eventually(lambda: states.state("a.jpg") is None and not topics.trouble)
        send(kafka, IMAGES_NEW, [("b.jpg", ImageNew(2, "b.jpg"))])
        state_of(states, "b.jpg", "waiting")


@pytest.mark.parametrize("damage", ["all", "middle", "cut", "another program's"])
def test_a_damaged_file_costs_time_alone(kafka, tmp_path, damage):
    folder = tmp_path / "view"
    send(kafka, IMAGES_NEW, [(f"{n}.jpg", ImageNew(n, f"{n}.jpg")) for n in range(2000)])
    with view(kafka, folder):
        pass
    file = folder / FILE
    data = bytearray(file.read_bytes())
    match damage:
        case "all":
            data = bytearray(b"nonsense" * 100)
        case "middle":
            data[4096:] = random.Random(1).randbytes(len(data) - 4096)
        case "cut":
            del data[len(data) // 2 :]
        case _:
            file.unlink()
            with closing(sqlite3.connect(file)) as other:
                other.execute("CREATE TABLE images (a)")
                other.commit()
            data = bytearray(file.read_bytes())
    file.write_bytes(data)
    with following(kafka, folder) as (topics, states):
        eventually(lambda: _all_known(topics, states))


def _all_known(topics: TopicView, states: ImageStates) -> bool:
    try:
        return not topics.trouble and all(states.state(f"{n}.jpg") for n in range(0, 2000, 7))
    except HttpError:
        return False


def test_two_bridges_do_not_share_a_folder_and_one_that_cannot_be_written_is_named(kafka, tmp_path, caplog):
    send(kafka, IMAGES_NEW, [("a.jpg", ImageNew(1, "a.jpg"))])
    with view(kafka, tmp_path / "view") as one, view(kafka, tmp_path / "view") as other:
        state_of(one, "a.jpg", "waiting")
        state_of(other, "a.jpg", "waiting")
        assert "another bridge's" in caplog.text
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="BRIDGE_DIR"):
        TopicView(kafka, tmp_path / "file", [ImageTables()])


def test_what_is_older_than_the_topics_keep_is_forgotten(kafka):
    month = 30 * 24 * 3600 * 1000
    send(kafka, VERDICTS, [("old.jpg", Verdict(1, "old.jpg", VerdictOutcome.CLEAR))], timestamp=now() - month)
    send_raw(kafka, DEAD_LETTERS, [(b"old.jpg", b"x")], timestamp=now() - month)
    send(kafka, VERDICTS, [("new.jpg", Verdict(1, "new.jpg", VerdictOutcome.CLEAR))])
    with following(kafka, None) as (topics, states):
        state_of(states, "new.jpg", "clear")
        topics.delete_before(now() - month // 2)
        assert states.state("old.jpg") is None
        assert states.state("new.jpg") is not None
        assert states.dead_letters == 0


# over HTTP


def ask(asked: Bridge, path: str) -> tuple[int, Any]:
    answer = asked.get(f"/v1/images/{quote(path)}")
    return answer.status, answer.json


def became(asked: Bridge, path: str) -> Any:
    """The state of an image once it waits no more."""
    eventually(lambda: ask(asked, path)[1]["response"]["state"] != "waiting")
    status, body = ask(asked, path)
    assert (status, body["global_status"], body["error_message"]) == (200, 1, "")
    return body["response"]


def test_over_http_a_client_learns_what_became_of_its_announcement(kafka, tmp_path):
    images = tmp_path / "images"
    write_groups(images, 1)
    (images / "broken.jpg").write_bytes(b"no image")
    with answering(kafka, *stages(kafka, images, tmp_path / "index")), bridge(kafka, tmp_path) as asked:
        asked.wait_ready()
        eventually(lambda: asked.get("/v1/images/0.png").status != 503)
        status, body = ask(asked, "0.png")
        assert (status, body["global_status"], body["response"]) == (404, 0, {})
        assert "0.png" in body["error_message"]
        assert asked.get("/v1/images/..%2fa.png").status in (404, 422)

        posted = asked.post("/v1/images", {"relative_path": "0.png", "metadata": TOLD})
        # at once: no client may be told that its image is unknown
        status, body = ask(asked, "0.png")
        assert status == 200
        assert body["response"]["request_id"] == posted.json["response"]["request_id"]
        assert body["response"]["metadata"] == TOLD
        found = became(asked, "0.png")
        assert (found["state"], found["metadata"]) == ("clear", TOLD)
        asked.post("/v1/images", {"relative_path": "0 resized.jpg", "request_id": 7})
        found = became(asked, "0 resized.jpg")
        assert (found["state"], found["request_id"], found["metadata"]) == ("duplicate", 7, {})
        assert found["announced"] <= found["decided"]
        (duplicate,) = found["duplicated"]
        assert (duplicate["relative_path"], duplicate["edit"]) == ("0.png", "resized to 75 %")
        asked.post("/v1/images", {"relative_path": "broken.jpg"})
        found = became(asked, "broken.jpg")
        assert (found["state"], found["reason"][:16]) == ("dead_letter", "UnsupportedImage")
        assert asked.ask("DELETE", "/v1/images/0.png").status == 202
        assert ask(asked, "0.png")[1]["response"]["state"] == "removed"


@pytest.mark.parametrize(
    ("path", "status"), [("gone.png", 404), ("link.png", 422), ("shop", 415), ("shop/gone/a.png", 404)]
)
def test_what_is_not_there_is_refused_at_once_where_the_bridge_sees_the_folder(kafka, tmp_path, path, status):
    images = tmp_path / "images"
    (images / "shop").mkdir(parents=True)
    scene(1).save(tmp_path / "outside.png")
    (images / "link.png").symlink_to(tmp_path / "outside.png")
    with bridge(kafka, tmp_path) as asked:
        asked.wait_ready()
        answer = asked.post("/v1/images", {"relative_path": path})
        assert (answer.status, answer.json["global_status"]) == (status, 0)
        assert path in answer.json["error_message"]
        # a removal needs no file
        assert asked.ask("DELETE", f"/v1/images/{path}").status == 202
    reader = Reader(kafka, IMAGES_NEW).settled(1)
    reader.close()
    assert [record for record in reader.seen["images.new"] if record] == []


def test_many_wrong_names_over_http_stop_nothing(kafka, tmp_path):
    """A bridge that does not see the folder of images takes every name; the service goes on."""
    images = tmp_path / "images"
    write_groups(images, 1)
    (tmp_path / "empty").mkdir()
    with (
        answering(kafka, *stages(kafka, images, tmp_path / "index")),
        bridge(kafka, tmp_path, images=tmp_path / "empty") as asked,
    ):
        asked.wait_ready()
        for number in range(130):
            assert asked.post("/v1/images", {"relative_path": f"wrong/{number}.png"}).status == 202
        assert asked.post("/v1/images", {"relative_path": "0.png"}).status == 202
        eventually(lambda: asked.get("/v1/images/0.png").status == 200)
        assert became(asked, "0.png")["state"] == "clear"
        for number in (0, 129):
            found = became(asked, f"wrong/{number}.png")
            assert (found["state"], found["reason"][:12]) == ("dead_letter", "MissingImage")

        def letters() -> Any:
            return asked.get("/v1/status").json["response"]["dead_letters"]

        eventually(lambda: letters()["count"] == 130)
        assert len(letters()["newest"]) == 5
        assert letters()["newest"][0]["error_type"] == "MissingImage"
        counted = b'imagetools_dead_letters_total{stage="encoder",type="MissingImage"} 130.0'
        eventually(lambda: counted in asked.get("/metrics").body)


def test_while_kafka_is_away_it_is_said_and_not_guessed(tmp_path):
    kafka = KafkaConfig(f"127.0.0.1:{free_ports(1)[0]}")
    with bridge(kafka, tmp_path) as asked:
        answer = asked.get("/v1/images/a.png")
        assert (answer.status, answer.json["global_status"]) == (503, 0)
        assert answer.headers["Retry-After"]
        eventually(lambda: "no Kafka answers" in asked.get("/v1/images/a.png").json["error_message"])


class FaultyTables(ImageTables):
    """Tables that refuse every message until they are mended."""

    mended = False

    def take(self, connection: sqlite3.Connection, batch: Sequence[ConsumedMessage]) -> None:
        if not self.mended:
            raise ZeroDivisionError("nothing is stored")
        super().take(connection, batch)


def test_a_fault_while_reading_makes_the_view_unready_until_it_is_over(kafka, caplog):
    send(kafka, IMAGES_NEW, [("a.jpg", ImageNew(5, "a.jpg"))])
    tables = FaultyTables()
    with closing(TopicView(kafka, None, [tables])) as topics:
        topics.start()
        eventually(lambda: "a fault while reading the topics: nothing is stored" in topics.trouble)
        with pytest.raises(HttpError, match="nothing is stored"):
            topics.require_ready()
        assert "ZeroDivisionError" in caplog.text
        tables.mended = True
        eventually(lambda: not topics.trouble)
        assert state_of(ImageStates(topics, tables), "a.jpg", "waiting").announced
