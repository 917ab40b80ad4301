"""Dead letters over HTTP and in a browser: listed with their reasons, and sent back once, even if several ask."""

import re
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, expect

from streams.config import KafkaConfig
from streams.kafka.admin import create_topics, delete_topics
from streams.topics import CANDIDATES, EMBEDDINGS, IMAGES_NEW, REPLAYED, REPLAYED_LETTER
from tests.cli.test_dead_letters import announcement, letters, set_aside
from tests.support.bridging import Answer, Bridge, bridge, eventually
from tests.support.browsing import opened
from tests.support.streaming import Reader, scene

Service = tuple[KafkaConfig, Bridge]
SCRIPT_TAG = "<img src=x onerror=document.title='taken'>.png"


@pytest.fixture
def service(bootstrap: str, tmp_path: Path) -> Iterator[Service]:
    """A bridge without stages."""
    (tmp_path / "images").mkdir()
    scene(1).save(tmp_path / "images" / "a.png")
    kafka = KafkaConfig(bootstrap, prefix=f"test-{uuid.uuid4().hex[:12]}.", member="test")
    create_topics(kafka)
    with bridge(kafka, tmp_path) as found:
        found.wait_ready()
        eventually(lambda: found.get("/v1/dead-letters").status == 200)
        yield kafka, found
    delete_topics(kafka)


def page_of(asked: Bridge, **query: object) -> Any:
    answer = asked.get("/v1/dead-letters?" + "&".join(f"{name}={value}" for name, value in query.items()))
    assert answer.status == 200, answer.body
    return answer.json["response"]


def until_listed(asked: Bridge, count: int) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = eventually(lambda: len(seen := page_of(asked)["letters"]) == count and seen)
    return found


def replay(asked: Bridge, *names: str) -> Answer:
    return asked.post("/v1/dead-letters/replay", {"letters": list(names)})


def sent_to(kafka: KafkaConfig) -> list[tuple[str, dict[str, bytes]]]:
    reader = Reader(kafka, IMAGES_NEW).settled(0.5)
    reader.close()
    return [(message.key().decode(), dict(message.headers())) for message in reader.messages["images.new"]]


def test_letters_are_listed_page_by_page_with_what_may_be_done_about_them(service: Service) -> None:
    kafka, asked = service
    for number in range(5):
        set_aside(kafka, IMAGES_NEW, f"{number}.png", announcement(f"{number}.png"))
    set_aside(kafka, EMBEDDINGS, "old.png", stage="search", error="MessageError")
    found = until_listed(asked, 6)
    assert [one["relative_path"] for one in found] == ["old.png", *(f"{n}.png" for n in reversed(range(5)))]
    assert "announce the image again" in found[0]["refusal"]
    newest = found[1]
    assert (newest["stage"], newest["error_type"], newest["refusal"], newest["sent_back"], newest["replays"]) == (
        "encoder", "MissingImage", "", False, 0
    )  # fmt: skip
    first = page_of(asked, limit=4)
    rest = page_of(asked, limit=4, cursor=first["cursor"])
    assert (first["total"], rest["cursor"]) == (6, None)
    assert [*first["letters"], *rest["letters"]] == found
    assert [one["relative_path"] for one in page_of(asked, stage="search")["letters"]] == ["old.png"]
    assert page_of(asked, type="MissingImage")["total"] == 5
    for query in ("cursor=x", "limit=0", "sent_back=maybe", "kind=x"):
        assert asked.get(f"/v1/dead-letters?{query}").status == 422


def test_a_letter_is_sent_back_once_however_often_and_wherever_it_is_asked_for(service: Service) -> None:
    kafka, asked = service
    set_aside(kafka, IMAGES_NEW, "a.png", announcement("a.png"))
    set_aside(kafka, EMBEDDINGS, "old.png", stage="search")
    name = until_listed(asked, 2)[1]["name"]
    refused = until_listed(asked, 2)[0]["name"]
    with ThreadPoolExecutor(4) as pool:
        answers = [one.json["response"] for one in pool.map(lambda _: replay(asked, name, name), range(4))]
    assert sorted(len(one["sent"]) for one in answers) == [0, 0, 0, 1]
    assert sorted(len(one["sent_before"]) for one in answers) == [0, 1, 1, 1]
    assert "1 dead letter not sent again" in letters(kafka, "replay", name).stderr
    answer = replay(asked, name, refused).json["response"]
    assert (answer["sent"], answer["sent_before"]) == ([], [name])
    assert "announce the image again" in answer["refused"][0]["reason"]
    assert sent_to(kafka) == [("a.png", {REPLAYED: b"1", REPLAYED_LETTER: name.encode()})]
    eventually(lambda: page_of(asked, sent_back="yes")["total"] == 1)
    assert [one["relative_path"] for one in page_of(asked, sent_back="no")["letters"]] == ["old.png"]
    set_aside(kafka, IMAGES_NEW, "a.png", announcement("a.png"), own=((REPLAYED, b"1"), (REPLAYED_LETTER, b"0")))
    assert until_listed(asked, 3)[0]["replays"] == 1


def test_what_another_program_sent_back_and_what_failed_again_counts_as_sent_back(service: Service) -> None:
    kafka, asked = service
    set_aside(kafka, IMAGES_NEW, "a.png", announcement("a.png"))
    set_aside(kafka, CANDIDATES, "b.png", b"x", stage="matcher")
    letters(kafka, "replay", "0")
    set_aside(kafka, CANDIDATES, "b.png", b"x", stage="matcher", own=((REPLAYED, b"1"), (REPLAYED_LETTER, b"1")))
    eventually(lambda: [one["sent_back"] for one in page_of(asked)["letters"]] == [False, True, True])


def test_a_replay_is_guarded_and_names_what_is_wrong(service: Service, tmp_path: Path) -> None:
    kafka, asked = service
    set_aside(kafka, IMAGES_NEW, "a.png", announcement("a.png"))
    until_listed(asked, 1)
    missing = replay(asked, "0", "7", "3:1")
    assert missing.status == 404
    assert "no dead letter at 7, 3:1" in missing.json["error_message"]
    wrong: list[Any] = [{"letters": []}, {"letters": ["x"]}, {"letters": ["0"], "who": "Ann"}]
    for body in wrong:
        assert asked.post("/v1/dead-letters/replay", body).status == 422
    foreign = {"Origin": "https://elsewhere.example"}
    assert asked.post("/v1/dead-letters/replay", {"letters": ["0"]}, headers=foreign).status == 403
    with bridge(kafka, tmp_path, BRIDGE_TOKEN="geheim") as locked:
        locked.wait_ready()
        for path in ("/v1/dead-letters", "/dead-letters"):
            assert locked.get(path).status == 401
        assert locked.post("/v1/dead-letters/replay", {"letters": ["0"]}).status == 401
    assert sent_to(kafka) == []


def test_a_person_sends_letters_back_in_a_browser(service: Service, browser: Browser) -> None:
    kafka, asked = service
    set_aside(kafka, EMBEDDINGS, "old.png", stage="search")
    for path in ("a.png", "b.png", SCRIPT_TAG):
        set_aside(kafka, IMAGES_NEW, path, announcement(path))
    until_listed(asked, 4)
    with opened(browser, asked, "/alerts") as page:
        letter = page.locator("#dead li").filter(has_text="b.png")
        expect(letter.locator("time")).to_contain_text(str(datetime.now().year))
        letter.get_by_role("button").click()
        expect(letter.locator(".outcome")).to_have_text("sent back")
        expect(letter.get_by_role("button")).to_have_count(0)
        expect(page.locator("#dead li").filter(has_text="old.png")).to_contain_text("announce the image again")
        # another look at the page offers nothing that was done before
        page.reload()
        expect(letter.locator(".outcome")).to_have_text("sent back")
        expect(letter.get_by_role("button")).to_have_count(0)
        page.set_viewport_size({"width": 1200, "height": 800})
        right = "all => new Set(all.map((e) => Math.round(e.getBoundingClientRect().right))).size"
        assert page.locator("#dead button").evaluate_all(right) == 1
        assert page.locator("#dead button").count() == 2
        page.get_by_role("link", name="All dead letters").click()
        expect(page.locator("#count")).to_have_text("3 letters")
        page.locator("#letters li").filter(has_text="a.png").get_by_role("button").click()
        expect(page.get_by_role("button", name="shown")).to_be_hidden()
        set_aside(kafka, IMAGES_NEW, "c.png", announcement("c.png"))
        page.get_by_role("button", name="Send back all 2 shown").click()
        expect(page.locator("#notice")).to_have_text("2 of 2 sent back.")
        expect(page.locator("#letters .outcome").filter(has_text=re.compile("^sent back$"))).to_have_count(2)
        # what comes meanwhile is seen at once
        set_aside(kafka, IMAGES_NEW, "late.png", announcement("late.png"))
        expect(page.locator("#letters .path")).to_have_text(["late.png", "old.png"])
        page.get_by_label("Stage").select_option("search")
        expect(page.locator("#letters .path")).to_have_text(["old.png"])
        assert page.title() == "Dead letters"
    assert sorted(path for path, _ in sent_to(kafka)) == sorted(["a.png", "b.png", "c.png", SCRIPT_TAG])


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_of_dead_letters_fits_a_phone(service: Service, browser: Browser, scheme: Any) -> None:
    kafka, asked = service
    set_aside(kafka, EMBEDDINGS, "folder/" * 30 + "old.png", stage="search")
    set_aside(kafka, IMAGES_NEW, "a.png", announcement("a.png"))
    until_listed(asked, 2)
    with opened(browser, asked, "/dead-letters", viewport={"width": 320, "height": 640}, color_scheme=scheme) as page:
        expect(page.locator("#letters li")).to_have_count(2)
        assert page.locator("html").evaluate("e => e.scrollWidth") <= 320
