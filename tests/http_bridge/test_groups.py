"""Groups and decisions over HTTP: lists, cursors, words that are filled in, and words that are not replaced unseen."""

import hashlib
import json
import threading
import uuid
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, closing
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

import msgspec
import pytest

from http_bridge.decision_bodies import DecisionBody, DecisionsMade
from http_bridge.decision_desk import DecisionDesk, PartlyStored
from http_bridge.group_tables import GroupTables
from http_bridge.images import Images
from http_bridge.topic_view import TopicView
from imagetools.grouping.records import Choice, EventKind, GroupState
from imagetools.image_root import ImageRoot
from schemas.group_records import DecisionRecord, GroupEdge, GroupLink, ImageContent, decision_id
from streams.config import KafkaConfig
from streams.kafka.admin import create_topics, delete_topics
from streams.topics import DECISIONS, DUPLICATES, GROUPS
from tests.http_bridge.test_event_stream import Listener
from tests.support import coroutines
from tests.support.bridging import Bridge, bridge, eventually
from tests.support.grouping import alert_of, content_of, group_of
from tests.support.streaming import Reader, scene, send, send_raw

Service = tuple[KafkaConfig, Bridge]


@pytest.fixture(scope="module")
def service(bootstrap: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A bridge without stages, with four images in its folder."""
    folder = tmp_path_factory.mktemp("groups")
    (folder / "images").mkdir()
    for name in ("seen.png", "other.png", "third.png", "alone.png"):
        scene(len(name)).save(folder / "images" / name)
    kafka = KafkaConfig(bootstrap, prefix=f"test-{uuid.uuid4().hex[:12]}.", member="test")
    create_topics(kafka)
    with bridge(kafka, folder) as found:
        found.wait_ready()
        eventually(lambda: found.get("/v1/groups").status == 200)
        yield kafka, found
    delete_topics(kafka)


@pytest.fixture
def name() -> str:
    """A folder of a test's own, so that tests do not see each other's groups."""
    return uuid.uuid4().hex[:8]


def listed(asked: Bridge, **query: Any) -> Any:
    answer = asked.get("/v1/groups?" + "&".join(f"{key}={quote(str(value))}" for key, value in query.items()))
    assert answer.status == 200, answer.body
    return answer.json["response"]


def ids(asked: Bridge, **query: Any) -> list[str]:
    return [one["id"] for one in listed(asked, **query)["groups"]]


def detail(asked: Bridge, group: str) -> Any:
    answer = asked.get(f"/v1/groups/{quote(group)}")
    assert answer.status == 200, answer.body
    return answer.json["response"]


def put(service: Service, *groups: Any) -> None:
    """Produce groups, and wait until the bridge has them."""
    kafka, asked = service
    send(kafka, GROUPS, [(group.id, group) for group in groups])
    last = groups[-1]
    eventually(lambda: asked.get(f"/v1/groups/{quote(last.id)}").json["response"].get("time") == _iso(last))


def _iso(group: Any) -> str:
    return str(group.time.isoformat(timespec="milliseconds"))


def pair(left: str, right: str, decision: str | None, **more: Any) -> dict[str, Any]:
    return {"left": left, "right": right, "decision": decision, **more}


def decide(asked: Bridge, *decisions: dict[str, Any], who: str = "Ann") -> Any:
    return asked.post("/v1/decisions", {"who": who, "decisions": list(decisions)})


def test_groups_are_listed_by_filters(service: Service, name: str) -> None:
    kafka, asked = service
    same = group_of(f"{name}/a.jpg", f"{name}/b.jpg")
    identical = group_of(f"{name}/c.jpg", f"{name}/d.jpg", relations=["identical"])
    decided = replace(group_of(f"{name}/e.jpg", f"{name}/f.jpg", f"{name}/Ö g.jpg"), state=GroupState.DECIDED)
    send(kafka, DUPLICATES, [(f"{name}/b.jpg", alert_of(f"{name}/b.jpg", (f"{name}/a.jpg", 0.8)))])
    put(service, same, identical, decided)
    assert ids(asked, prefix=name) == [f"{name}/a.jpg", f"{name}/c.jpg"]
    assert ids(asked, prefix=name, state="all") == [f"{name}/a.jpg", f"{name}/c.jpg", f"{name}/e.jpg"]
    assert ids(asked, prefix=name, state="decided") == [f"{name}/e.jpg"]
    assert ids(asked, prefix=name, relation="identical") == [f"{name}/c.jpg"]
    assert ids(asked, prefix=f"{name}/b", state="all") == [f"{name}/a.jpg"]
    assert ids(asked, search="Ö G.JP", prefix=name, state="all") == [f"{name}/e.jpg"]
    # by alerts alone a group has a score; one without is in every list
    eventually(lambda: listed(asked, prefix=name)["groups"][0]["score"] == 0.8)
    assert ids(asked, prefix=name, min_score=0.81) == [f"{name}/c.jpg"]
    assert ids(asked, prefix=name, min_score=0.8) == [f"{name}/a.jpg", f"{name}/c.jpg"]
    (first, second) = listed(asked, prefix=name)["groups"]
    assert (first["relation"], first["member_count"], first["keep"]) == ("same", 2, f"{name}/a.jpg")
    assert (second["relation"], second["score"], second["later"]) == ("identical", None, False)


def test_metadata_is_in_the_members_and_is_searched(service: Service, name: str) -> None:
    _, asked = service
    told = {"sku": f"{name}-1", "Shop": "<i>Zoë</i>"}
    group = group_of(f"{name}/a.jpg", f"{name}/b.jpg")
    members = (replace(group.members[0], metadata=told), group.members[1])
    put(service, replace(group, members=members), group_of(f"{name}/c.jpg", f"{name}/d.jpg"))
    assert [one["metadata"] for one in detail(asked, group.id)["members"]] == [told, {}]
    for search in (f"{name}-1", f"sku={name}-1", "shop=<I>Zoë"):
        assert ids(asked, search=search, prefix=name) == [group.id], search
    assert ids(asked, search="sku=", prefix=f"{name}/c") == []
    put(service, replace(group, time=group.time + timedelta(seconds=1)))
    assert ids(asked, search=f"{name}-1") == []


@pytest.mark.parametrize(
    "query",
    ["state=new", "relation=x", "min_score=2", "min_score=nan", "limit=0", "limit=x", "cursor=%3F", "later=1", "x=1",
     "state=open&state=all", "search=" + "a" * 5000],
)  # fmt: skip
def test_a_wrong_filter_is_refused_by_its_name(service: Service, query: str) -> None:
    answer = service[1].get(f"/v1/groups?{query}")
    assert (answer.status, answer.json["global_status"]) == (422, 0)
    assert answer.json["error_message"].startswith(query.partition("=")[0])


def test_a_cursor_skips_and_repeats_nothing_while_groups_come_and_go(service: Service, name: str) -> None:
    kafka, asked = service
    put(service, *[group_of(f"{name}/{n:02}.jpg", f"{name}/{n:02} copy.jpg") for n in range(10)])
    page = listed(asked, prefix=name, limit=4)
    assert page["total"] == 10
    found = [one["id"] for one in page["groups"]]
    # before the cursor one comes and one goes; behind it, too
    send(kafka, GROUPS, [(f"{name}/01.jpg", None), (f"{name}/07.jpg", None)])
    put(service, group_of(f"{name}/00x.jpg", f"{name}/00y.jpg"), group_of(f"{name}/055.jpg", f"{name}/056.jpg"))
    while page["cursor"]:
        page = listed(asked, prefix=name, limit=4, cursor=page["cursor"])
        found += [one["id"] for one in page["groups"]]
    assert found == [f"{name}/{n}.jpg" for n in ("00", "01", "02", "03", "04", "05", "055", "06", "08", "09")]


def test_a_group_has_its_members_pairs_and_file_times(service: Service, name: str) -> None:
    kafka, asked = service
    contents = [content_of("seen.png"), content_of("other.png")]
    send(kafka, DUPLICATES, [("other.png", alert_of("other.png", ("seen.png", 0.95), (f"{name}.jpg", 0.9)))])
    # about earlier bytes
    stale = alert_of("third.png", ("seen.png", 0.99), contents=[content_of("third.png", 1), contents[0]])
    send(kafka, DUPLICATES, [("third.png", stale)])
    put(service, group_of("seen.png", "other.png", "third.png", f"{name}.jpg"))
    eventually(lambda: len(detail(asked, "seen.png")["pairs"]) == 2)
    found = detail(asked, "seen.png")
    assert [(one["left"], one["right"], one["score"]) for one in found["pairs"]] == [
        ("other.png", "seen.png", 0.95),
        ("other.png", f"{name}.jpg", 0.9),
    ]
    assert len(found["pairs"][0]["points"]) == 4
    assert found["reasons"] == ["largest picture"]
    first, _, _, absent = found["members"]
    assert (first["relative_path"], first["width"], first["keep"]) == ("seen.png", 800, True)
    assert first["content"] == contents[0].hex()
    assert first["modified"].startswith("20")
    assert absent["modified"] is None
    assert found["newest"] == -1


def test_what_became_of_a_group_that_is_gone_is_said(service: Service, name: str) -> None:
    kafka, asked = service
    put(service, group_of(f"{name}/a.jpg", f"{name}/b.jpg"), group_of(f"{name}/c.jpg", f"{name}/d.jpg"))
    headers = [("event", b"merged"), ("into", f"{name}/a.jpg".encode())]
    send_raw(kafka, GROUPS, [(f"{name}/c.jpg".encode(), None)], headers=headers)
    eventually(lambda: asked.get(f"/v1/groups/{name}/c.jpg").status == 404)
    said = asked.get(f"/v1/groups/{name}/c.jpg").json["error_message"]
    assert said == f"id: the group {name}/c.jpg was merged into {name}/a.jpg"
    assert "there is no group" in asked.get(f"/v1/groups/{name}/z.jpg").json["error_message"]


def test_a_decision_is_in_kafka_with_the_contents_that_the_bridge_knows(service: Service, name: str) -> None:
    kafka, asked = service
    a, b = f"{name}/a.jpg", f"{name}/b.jpg"
    put(service, group_of(a, b))
    answer = decide(asked, pair(b, a, "not_duplicate", note="other label"))
    assert answer.status == 200, answer.body
    (made,) = answer.json["response"]["decisions"]
    images = (ImageContent(b, content_of(b)), ImageContent(a, content_of(a)))
    reader = Reader(kafka, DECISIONS).settled(0.3)
    reader.close()
    record = next(one for one in reader.seen["decisions"] if one and one.images == images)
    assert (record.id, record.decision, record.who, record.note) == (
        decision_id(images), Choice.NOT_DUPLICATE, "Ann", "other label",
    )  # fmt: skip
    assert (made["id"], made["in_force"], made["who"]) == (record.id, True, "Ann")
    # at once, in the group and in the history
    assert detail(asked, a)["newest"] == made["number"]
    assert asked.get(f"/v1/decisions?path={quote(b)}").json["response"]["decisions"] == [made]
    assert asked.get("/v1/decisions?who=nobody").json["response"]["decisions"] == []


def test_a_file_that_is_in_no_group_is_read_for_its_content(service: Service, name: str) -> None:
    _, asked = service
    (made,) = decide(asked, pair("third.png", "other.png", "duplicate", keep=["third.png"])).json["response"][
        "decisions"
    ]
    assert made["keep"] == ["third.png"]
    answer = decide(asked, pair("third.png", f"{name}.png", "duplicate"))
    assert answer.status == 422
    assert f"the content of {name}.png is not known here" in answer.json["error_message"]


def test_two_people_do_not_replace_each_others_word_unseen(service: Service, name: str) -> None:
    _, asked = service
    a, b, c = (f"{name}/{letter}.jpg" for letter in "abc")
    put(service, group_of(a, b, c))
    (first,) = decide(asked, pair(a, b, "not_duplicate")).json["response"]["decisions"]
    # the same person may say the same again, and a word that says nothing is no one's to keep
    assert decide(asked, pair(a, b, "not_duplicate")).status == 200
    assert decide(asked, pair(a, c, "later")).status == 200
    for decision in (
        pair(b, a, "duplicate"),
        {"group": a, "decision": "duplicate", "keep": [a]},
        pair(a, b, "not_duplicate"),
        pair(a, b, "duplicate", expected=first["number"]),
    ):
        answer = decide(asked, pair(a, c, "duplicate"), decision, who="Bob")
        assert answer.status == 409, (decision, answer.body)
        assert "decisions[1]: Ann said not_duplicate" in answer.json["error_message"]
        (conflict,) = answer.json["response"]["conflicts"]
        assert (conflict["who"], conflict["decision"]) == ("Ann", "not_duplicate")
    # nothing was made of the other decision either
    assert [one["decision"] for one in detail(asked, a)["decisions"]] == ["later", "not_duplicate", "not_duplicate"]
    newest = detail(asked, a)["newest"]
    made = decide(asked, {"group": a, "decision": "duplicate", "keep": [a], "expected": newest}, who="Bob")
    assert made.status == 200
    assert made.json["response"]["overtook"] == []
    assert len(made.json["response"]["decisions"][0]["images"]) == 3


def test_of_many_at_one_moment_one_is_made(service: Service, name: str) -> None:
    _, asked = service
    put(service, group_of(f"{name}/a.jpg", f"{name}/b.jpg"))
    statuses: list[int] = []

    def say(number: int) -> None:
        decision = pair(f"{name}/a.jpg", f"{name}/b.jpg", ["duplicate", "not_duplicate"][number % 2])
        statuses.append(decide(asked, decision, who=f"person {number}").status)

    threads = [threading.Thread(target=say, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(statuses) == [200] + [409] * 7


def test_a_word_that_came_over_another_bridge_in_the_same_moment_is_named(
    service: Service, name: str, tmp_path: Path
) -> None:
    """The other bridge reads slowly: it has not seen the first word when it writes the second."""
    kafka, asked = service
    a, b = f"{name}/a.jpg", f"{name}/b.jpg"
    put(service, group_of(a, b))
    images = (ImageContent(a, content_of(a)), ImageContent(b, content_of(b)))
    other = DecisionRecord(decision_id(images), Choice.NOT_DUPLICATE, images, who="Zoë")
    for _ in range(20):
        # without waiting for the bridge to read it
        newest = detail(asked, a)["newest"]
        send(kafka, DECISIONS, [(other.id, other)])
        answer = decide(asked, pair(a, b, "duplicate", expected=newest))
        if answer.status == 200:
            overtook = answer.json["response"]["overtook"]
            assert [one["who"] for one in overtook] == ["Zoë"]
            return
        assert answer.json["response"]["conflicts"][0]["who"] == "Zoë"
    # the bridge was always quicker, which is better still


def test_undoing(service: Service, name: str) -> None:
    kafka, asked = service
    a, b = f"{name}/a.jpg", f"{name}/b.jpg"
    put(service, group_of(a, b))
    (made,) = decide(asked, pair(a, b, "not_duplicate")).json["response"]["decisions"]
    (again,) = decide(asked, pair(a, b, "duplicate", expected=made["number"])).json["response"]["decisions"]
    path = f"/v1/decisions/{made['id']}"
    # Bob has seen the first word alone
    answer = asked.ask("DELETE", f"{path}?who=Bob&expected={made['number']}")
    assert (answer.status, answer.json["response"]["conflicts"][0]["number"]) == (409, again["number"])
    # without a number only one's own word is undone
    for who in ("?who=Bob", ""):
        answer = asked.ask("DELETE", path + who)
        assert (answer.status, answer.json["response"]["conflicts"][0]["number"]) == (409, again["number"])
        assert f"Ann said duplicate of {a} and {b}" in answer.json["error_message"]
        assert f"to undo that, send expected={again['number']}" in answer.json["error_message"]
    answer = decide(asked, pair(a, b, None), who="Mallory")
    assert (answer.status, f'"expected": {again["number"]}' in answer.json["error_message"]) == (409, True)
    (undone,) = asked.ask("DELETE", f"{path}?who=Bob&expected={again['number']}").json["response"]["decisions"]
    assert (undone["decision"], undone["who"], undone["in_force"]) == (None, "Bob", False)
    assert [one["relative_path"] for one in undone["images"]] == [a, b]
    assert [one["in_force"] for one in detail(asked, a)["decisions"]] == [False, False, False]
    reader = Reader(kafka, DECISIONS).settled(0.3)
    reader.close()
    last = reader.messages["decisions"][-1]
    assert (last.key(), last.value(), last.headers()) == (made["id"].encode(), None, [("who", b"Bob")])
    assert asked.ask("DELETE", path).status == 404
    # by a null, many at a time
    assert decide(asked, pair(a, b, "duplicate")).status == 200
    assert decide(asked, pair(a, b, None)).status == 200
    assert decide(asked, pair(a, b, None)).status == 404


@pytest.mark.parametrize(
    ("decision", "said"),
    [
        ({"decision": "duplicate"}, "left and right, images, or group are needed"),
        (pair("a", "a", "later"), "an image is named twice"),
        (pair("a", "b", "maybe"), "decisions[0].decision"),
        ({"decision": "not_duplicate", "images": ["a", "b", "c"]}, "not_duplicate is about two images"),
        (pair("a", "b", "later", keep=["a"]), "it goes with the decision duplicate"),
        (pair("a", "b", "duplicate", keep=["c"]), "c is none of the images"),
        (pair("a", "b", "duplicate", colour="red"), "colour"),
        ({"decision": "later", "group": "no such"}, "there is no group no such"),
        (pair("a", "b", "duplicate", keep=["a", "a"]), "decisions[0].keep: an image is named twice"),
        (pair("a", "b", "duplicate", keep=["a"] * 5001), "decisions[0].keep: Expected `array` of length <= 5000"),
        ({"decision": "later", "images": ["a"] * 5001}, "decisions[0].images: Expected `array` of length <= 5000"),
    ],
)
def test_what_makes_no_sense_is_refused(service: Service, decision: Any, said: str) -> None:
    if "images" in decision:
        # without contents where there are many, so that the body is not too large
        image = _image if len(decision["images"]) < 10 else lambda path: {"relative_path": path}
        decision = decision | {"images": [image(path) for path in decision["images"]]}
    elif "left" in decision:
        rest = {key: value for key, value in decision.items() if key not in ("left", "right")}
        decision = rest | {"images": [_image(decision["left"]), _image(decision["right"])]}
    answer = decide(service[1], decision)
    assert answer.status in (404, 422)
    assert said in answer.json["error_message"]


def _image(path: str) -> dict[str, str]:
    return {"relative_path": path, "content": hashlib.sha256(path.encode()).hexdigest()}


def test_ones_own_newest_word_is_undone_without_a_number(service: Service, name: str) -> None:
    """Ann puts a pair off, and Bob says more of it: his word is not hers to undo."""
    _, asked = service
    a, b = f"{name}/a.jpg", f"{name}/b.jpg"
    put(service, group_of(a, b))
    (made,) = decide(asked, pair(a, b, "later")).json["response"]["decisions"]
    assert decide(asked, pair(a, b, "not_duplicate"), who="Bob").status == 200
    assert asked.ask("DELETE", f"/v1/decisions/{made['id']}?who=Ann").status == 409
    assert asked.ask("DELETE", f"/v1/decisions/{made['id']}?who=Bob").status == 200
    assert decide(asked, pair(a, b, "duplicate")).status == 200
    assert decide(asked, pair(b, a, None)).status == 200


def test_decisions_of_one_request_that_contradict_each_other_are_refused(service: Service, name: str) -> None:
    _, asked = service
    a, b, c = (f"{name}/{letter}.jpg" for letter in "abc")
    put(service, group_of(a, b, c))
    group = {"group": a, "decision": "duplicate", "keep": [a]}
    for first, second in (
        (pair(a, b, "duplicate"), pair(b, a, "not_duplicate")),
        (pair(a, b, "duplicate", keep=[a]), pair(a, b, "duplicate", keep=[b])),
        (pair(a, c, "not_duplicate"), group),
        (group, pair(a, c, "not_duplicate")),
    ):
        answer = decide(asked, pair(b, c, "later"), first, second)
        assert answer.status == 422, answer.body
        assert "decisions[2]: it contradicts decisions[1] on" in answer.json["error_message"]
    assert detail(asked, a)["decisions"] == []
    assert decide(asked, pair(a, b, "duplicate"), pair(b, a, "duplicate"), group).status == 200


@pytest.mark.parametrize("who", ["Eve\0", "Eve\nAnn", "\x1b[31mEve", "Eve\x85"])
def test_a_name_is_one_line_of_text(service: Service, who: str) -> None:
    answer = decide(service[1], {"decision": "later", "images": [_image("a"), _image("b")]}, who=who)
    assert (answer.status, "who holds a control character" in answer.json["error_message"]) == (422, True)
    assert service[1].ask("DELETE", f"/v1/decisions/x?who={quote(who)}").status == 422


def test_an_announced_image_names_its_group(service: Service, name: str) -> None:
    """Of the same bytes again the verdict says nothing: the group does."""
    _, asked = service
    assert asked.post("/v1/images", {"relative_path": "alone.png"}).status == 202
    state = asked.get("/v1/images/alone.png").json["response"]
    assert (state["state"], state["group"]) == ("waiting", "")
    put(service, group_of(f"{name}/first.png", "alone.png"))
    assert asked.get("/v1/images/alone.png").json["response"]["group"] == f"{name}/first.png"


def test_half_of_a_surrogate_pair_is_named(service: Service) -> None:
    for text in (r"\ud800", r"\ud800x", r"x\udc00"):
        body = '{"who": "Ann", "decisions": [{"left": "TEXT", "right": "b", "decision": "later"}]}'
        answer = service[1].ask("POST", "/v1/decisions", body.replace("TEXT", text).encode())
        assert answer.status == 422
        assert "decisions[0].left is not valid Unicode" in answer.json["error_message"]
    answer = service[1].ask("POST", "/v1/decisions", rb'{"\ud800": 1}')
    assert (answer.status, "the body is not valid Unicode" in answer.json["error_message"]) == (422, True)


def test_a_single_image_waits_only_where_something_is_in_doubt(service: Service, name: str) -> None:
    _, asked = service
    a, b, c = (f"{name}/{letter}.jpg" for letter in "abc")
    edge = GroupEdge(ImageContent(a, content_of(a)), ImageContent(b, content_of(b)), "same", 0.8)
    crop = GroupEdge(ImageContent(c, content_of(c)), ImageContent(b, content_of(b)), "crop", 0.9)
    put(
        service, group_of(a, doubtful=(edge,)), group_of(b, f"{name}/d.jpg"), group_of(c, linked=(GroupLink(b, crop),)),
    )  # fmt: skip
    assert ids(asked, prefix=name) == [a, b]
    assert ids(asked, prefix=name, state="all") == [a, b, c]
    # with the file's facts of the other image
    (beyond,) = detail(asked, a)["beyond"]
    assert (beyond["relative_path"], beyond["width"], beyond["format"]) == (b, 800, "JPEG")


def test_a_group_that_was_put_off_waits_until_something_comes(service: Service, name: str) -> None:
    _, asked = service
    a, b, c = (f"{name}/{letter}.jpg" for letter in "abc")
    put(service, group_of(a, b))
    (made,) = decide(asked, {"group": a, "decision": "later"}).json["response"]["decisions"]
    assert made["group"] == a
    assert ids(asked, prefix=name, later="yes") == [a]
    assert ids(asked, prefix=name, later="no") == []
    put(service, group_of(a, b, c, event=EventKind.GROWN))
    assert ids(asked, prefix=name, later="no") == [a]
    put(service, group_of(a, b))
    assert ids(asked, prefix=name, later="yes") == [a]
    assert asked.ask("DELETE", f"/v1/decisions/{made['id']}").status == 200
    assert ids(asked, prefix=name, later="no") == [a]


def test_what_becomes_of_groups_and_decisions_comes_as_events(service: Service, name: str) -> None:
    kafka, asked = service
    a, b = f"{name}/a.jpg", f"{name}/b.jpg"
    listener = Listener(asked)

    def next_of(kind: str, group: str) -> tuple[str, Any]:
        while True:
            event = listener.next()
            data = json.loads(event["data"])
            if event["event"] == kind and group in event["data"]:
                return event["id"], data

    put(service, group_of(a, b, event=EventKind.BORN))
    first, born = next_of("group", a)
    assert first.startswith("g0-")
    assert (born["event"], born["state"], born["member_count"]) == ("born", "open", 2)
    assert decide(asked, pair(a, b, "not_duplicate")).status == 200
    number, decision = next_of("decision", a)
    assert number == f"c0-{decision['number']}"
    assert (decision["who"], decision["decision"]) == ("Ann", "not_duplicate")
    send_raw(kafka, GROUPS, [(a.encode(), None)], headers=[("event", b"merged"), ("into", b.encode())])
    _, merged = next_of("group", a)
    assert (merged["event"], merged["into"]) == ("merged", b)
    assert asked.ask("DELETE", f"/v1/decisions/{decision['id']}?who=Bob&expected={decision['number']}").status == 200
    assert next_of("decision", decision["id"])[1]["who"] == "Bob"
    listener.close()
    again = Listener(asked, after=first)
    assert json.loads(again.next()["data"])["number"] == decision["number"]
    again.close()


def test_a_view_that_is_read_from_the_beginning_says_the_same(service: Service, name: str, tmp_path: Path) -> None:
    kafka, asked = service
    put(service, *[group_of(f"{name}/{n}.jpg", f"{name}/{n} copy.jpg") for n in range(3)])
    assert decide(asked, {"group": f"{name}/1.jpg", "decision": "later"}).status == 200
    with bridge(kafka, tmp_path) as other:
        eventually(lambda: other.get("/v1/groups").status == 200)
        for query in ({"prefix": name}, {"prefix": name, "later": "yes"}, {"state": "all"}):
            assert listed(other, **query) == listed(asked, **query)
        assert detail(other, f"{name}/1.jpg") == detail(asked, f"{name}/1.jpg")


def test_a_message_that_is_no_decision_is_skipped(service: Service, name: str) -> None:
    kafka, asked = service
    a, b = f"{name}/a.jpg", f"{name}/b.jpg"
    put(service, group_of(a, b))
    images = (ImageContent(a, b"short"), ImageContent(b, content_of(b)))
    bad = DecisionRecord(decision_id(images), Choice.DUPLICATE, images, who="Ann")
    send(kafka, DECISIONS, [(bad.id, bad), (bad.id, None), (bad.id, bad)])
    # read after them
    assert decide(asked, pair(a, b, "not_duplicate")).status == 200
    assert [one["decision"] for one in detail(asked, a)["decisions"]] == ["not_duplicate"]
    (only,) = asked.get(f"/v1/decisions?path={quote(a)}").json["response"]["decisions"]
    assert only["decision"] == "not_duplicate"
    assert "content that is no SHA-256" in asked.log.read_text()


def test_a_file_that_is_named_twice_is_refused_before_it_is_read(service: Service) -> None:
    images = [{"relative_path": "no such file.png"}] * 2
    answer = decide(service[1], {"decision": "later", "images": images})
    assert (answer.status, answer.json["error_message"]) == (422, "decisions[0]: an image is named twice")


def test_a_decision_that_no_message_holds_is_refused_with_the_remedy(service: Service, name: str) -> None:
    _, asked = service
    put(service, group_of(*[f"{name}/{n:04}{'x' * 190}.jpg" for n in range(5000)]), group_of(f"{name}/a", f"{name}/b"))
    large = {"group": f"{name}/0000{'x' * 190}.jpg", "decision": "duplicate"}
    answer = decide(asked, pair(f"{name}/a", f"{name}/b", "duplicate"), large)
    assert (answer.status, answer.headers.get("Retry-After")) == (413, None)
    assert answer.json["error_message"].startswith("decisions[1]: it takes 1,")
    assert "divide the images among several decisions" in answer.json["error_message"]
    # nothing of the other is stored either
    assert detail(asked, f"{name}/a")["decisions"] == []


@asynccontextmanager
async def unread_desk(kafka: KafkaConfig, folder: Path) -> AsyncIterator[DecisionDesk]:
    """A desk whose view does not follow the topics."""
    tables = GroupTables(lambda _, __: None, lambda _: None)
    with ThreadPoolExecutor(1) as pool, closing(TopicView(kafka, None, [tables])) as view:
        images = Images(kafka, ImageRoot(folder), pool)
        desk = DecisionDesk(kafka, view, tables, images)
        try:
            yield desk
        finally:
            desk.close()
            images.close()


def bodies(name: str, count: int) -> list[DecisionBody]:
    pairs = [[_image(f"{name}/{n}.jpg"), _image(f"{name}/{n} copy.jpg")] for n in range(count)]
    return msgspec.convert([{"decision": "later", "images": pair} for pair in pairs], list[DecisionBody])


def test_what_was_overtaken_is_not_known_where_the_topic_was_not_read(
    service: Service, name: str, tmp_path: Path
) -> None:
    async def say() -> DecisionsMade:
        async with unread_desk(service[0], tmp_path) as desk:
            return await desk.decide(bodies(name, 1), "Ann")

    made = coroutines.run(say())
    assert (len(made.decisions), made.overtook) == (1, None)


def test_what_is_stored_is_said_where_kafka_does_not_take_the_rest(service: Service, name: str, tmp_path: Path) -> None:
    # the second message finds no place in the producer
    kafka = replace(service[0], settings={"queue.buffering.max.messages": "1"})

    async def say() -> None:
        async with unread_desk(kafka, tmp_path) as desk:
            await desk.decide(bodies(name, 2), "Ann")

    with pytest.raises(PartlyStored, match=r"1 of 2 decisions are stored, .* the others again: too many") as caught:
        coroutines.run(say())
    (made,) = caught.value.made.decisions
    assert [one.relative_path for one in made.images] == [f"{name}/0.jpg", f"{name}/0 copy.jpg"]
