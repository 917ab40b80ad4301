"""The page in a real browser: an image dropped, an alert while watching, a broker that goes, and names that are markup.

Nothing here is skipped where there is no Chromium: the test fails and says how to get one.
"""

import base64
import uuid
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import ImageDraw, ImageOps
from playwright.sync_api import Browser, expect

from bench.documents import document
from local_kafka.broker import LocalKafka
from schemas.records import Duplicate, Duplicates, State
from streams.config import KafkaConfig
from streams.kafka.admin import create_topics, delete_topics
from streams.topics import DEAD_LETTERS, DUPLICATES, VERDICTS
from streams.watching.states import StateReporter
from tests.support.bridging import Bridge, answering, bridge, stages
from tests.support.browsing import opened
from tests.support.streaming import Reader, scene, send, send_raw, write_groups

SCRIPT_TAG = "<script>document.title='taken'</script><img src=x onerror=document.title='taken'>.png"
FOCUSED = "() => (({ id, className, href }) => id || className || href || '')(document.activeElement)"
DROP = """(page, [name, data]) => {
  const bytes = Uint8Array.from(atob(data), (one) => one.charCodeAt(0));
  const carried = new DataTransfer();
  carried.items.add(new File([bytes], name, { type: "image/png" }));
  page.dispatchEvent(new DragEvent("drop", { dataTransfer: carried, bubbles: true, cancelable: true }));
}"""
PASTE = """(page, [name, data]) => {
  const bytes = Uint8Array.from(atob(data), (one) => one.charCodeAt(0));
  const carried = new DataTransfer();
  carried.items.add(new File([bytes], name, { type: "image/png" }));
  page.dispatchEvent(new ClipboardEvent("paste", { clipboardData: carried, bubbles: true }));
}"""


@pytest.fixture(scope="module")
def service(bootstrap: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[KafkaConfig, Path, Bridge]]:
    folder = tmp_path_factory.mktemp("page")
    kafka = KafkaConfig(bootstrap, prefix=f"test-{uuid.uuid4().hex[:12]}.", member="test")
    create_topics(kafka)
    images = folder / "images"
    write_groups(images, 2)
    with answering(kafka, *stages(kafka, images, folder / "index")), bridge(kafka, folder) as found:
        found.wait_ready()
        yield kafka, images, found
    delete_topics(kafka)


def announce(kafka: KafkaConfig, asked: Bridge, *paths: str) -> None:
    """Announce images one after the other; each has its verdict before the next."""
    for path in paths:
        reader = Reader(kafka, VERDICTS).settled(0.2)
        before = len(reader.seen["verdicts"])
        assert asked.post("/v1/images", {"relative_path": path}).status == 202
        reader.until(lambda seen, n=before: len(seen.seen["verdicts"]) > n)  # type: ignore[misc]
        reader.close()


def test_nothing_yet_then_an_alert_while_watching_then_an_image_of_ones_own(
    service: tuple[KafkaConfig, Path, Bridge], browser: Browser
) -> None:
    kafka, images, asked = service
    with opened(browser, asked, "/alerts") as page:
        expect(page.locator("#link")).to_have_text("live")
        expect(page.locator("#none")).to_contain_text("No alert yet")
        running = ["encoder1 process", "search1 process", "matcher1 process", "groupingno process runs"]
        expect(page.locator(".stage h3")).to_have_text(running)

        announce(kafka, asked, "0.png", "0 resized.jpg")
        card = page.locator("#alerts .card")
        expect(card).to_have_count(1)
        expect(page.locator("#none")).to_be_hidden()
        expect(card.locator("bdi")).to_have_text(["0 resized.jpg", "0 resized.jpg", "0.png"])
        expect(card.locator("image")).to_have_count(2)
        expect(card.locator("polygon.region")).to_have_count(2)
        assert card.locator("line.line").count() >= 4
        expect(card.locator(".score")).to_have_text("1.00")
        expect(card.locator(".edit")).not_to_be_empty()
        expect(card.locator(".marks")).to_be_visible()
        page.get_by_label("Lines between matching points").uncheck()
        expect(card.locator(".marks")).to_be_hidden()

        ImageOps.mirror(scene(0)).save(images.parent / "mirrored.png")
        data = base64.b64encode((images.parent / "mirrored.png").read_bytes()).decode()
        page.locator("body").evaluate(DROP, ["mirrored.png", data])
        answer = page.locator("#answer")
        expect(answer.locator("h3")).to_have_text("2 duplicates of mirrored.png")
        expect(answer.locator("figure").first.locator(".edit")).to_contain_text("mirrored")
        expect(answer.locator("image")).to_have_count(4)

        scene(78).save(images.parent / "unlike.png")
        data = base64.b64encode((images.parent / "unlike.png").read_bytes()).decode()
        page.locator("body").evaluate(PASTE, ["unlike.png", data])
        expect(answer).to_contain_text("No duplicate.")
        page.locator("body").evaluate(DROP, ["broken.png", base64.b64encode(b"no image").decode()])
        expect(answer.locator(".trouble")).to_contain_text("not an image")


def test_the_page_works_by_keyboard(service: tuple[KafkaConfig, Path, Bridge], browser: Browser) -> None:
    kafka, images, asked = service
    announce(kafka, asked, "1.png", "1 resized.jpg")
    with opened(browser, asked, "/alerts") as page:
        page.locator("#alerts .card").first.wait_for()
        reached = []
        for _ in range(12):
            page.keyboard.press("Tab")
            reached.append(page.locator("html").evaluate(FOCUSED))
        assert reached[0] == "skip"
        assert {f"{asked.url}/docs", "file", "lines"} <= set(reached)
        assert any("card" in name for name in reached)
        page.locator("#lines").focus()
        page.keyboard.press("Space")
        expect(page.locator("#lines")).not_to_be_checked()
        with page.expect_file_chooser() as chooser:
            page.locator("#file").focus()
            page.keyboard.press("Enter")
        chooser.value.set_files(images / "1.png")
        expect(page.locator("#answer .edit").first).to_have_text("the same file")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_a_phone_in_both_schemes(
    service: tuple[KafkaConfig, Path, Bridge], browser: Browser, scheme: Any
) -> None:
    kafka, _, asked = service
    announce(kafka, asked, "1 re-encoded.jpg")
    with opened(browser, asked, "/alerts", viewport={"width": 320, "height": 640}, color_scheme=scheme) as page:
        page.locator("#alerts .card image").first.wait_for()
        assert page.locator("html").evaluate("e => e.scrollWidth") <= 320
        ground = page.locator("body").evaluate("e => getComputedStyle(e).backgroundColor")
        brightness = sum(int(part) for part in ground.removeprefix("rgb(").rstrip(")").split(","))
        assert (brightness > 600) == (scheme == "light")


def test_what_differs_is_outlined_on_both_pictures(service: tuple[KafkaConfig, Path, Bridge], browser: Browser) -> None:
    kafka, images, asked = service
    invoice = document("invoice", 2, 2)
    invoice.save(images / "invoice.png")
    ImageDraw.Draw(invoice).text((420, 880), "PAID", fill=(180, 20, 20), font_size=60)
    invoice.save(images / "paid.png")
    announce(kafka, asked, "invoice.png", "paid.png")
    with opened(browser, asked, "/alerts") as page:
        card = page.locator("#alerts .card").first
        expect(card.locator("h3")).to_have_text("paid.png")
        expect(card.locator("rect.differs")).to_have_count(2)
        expect(card.locator(".evidence")).to_contain_text("what differs is outlined in blue")

        document("invoice", 2, 3).save(images.parent / "other.png")
        data = base64.b64encode((images.parent / "other.png").read_bytes()).decode()
        page.locator("body").evaluate(DROP, ["other.png", data])
        answer = page.locator("#answer")
        expect(answer).to_contain_text("No duplicate.")
        expect(answer.locator("figure")).to_have_count(0)
        answer.get_by_text("2 images are alike, and no duplicates").click()
        first = answer.locator("figure").first
        expect(first.locator(".evidence")).to_contain_text("same template, other content at ")
        expect(first.locator("image")).to_have_count(2)
        assert first.locator("rect.differs").count() >= 4
        expect(first.locator(".score, polygon.region, line.line")).to_have_count(0)
        boxes = [first.locator("rect.differs").nth(n).bounding_box() for n in range(2)]
        middle = first.locator("svg").bounding_box()
        assert all(boxes)
        assert middle is not None
        at = [box["x"] for box in boxes if box is not None]
        assert at[0] < middle["x"] + middle["width"] / 2 < at[1]


def test_names_that_are_markup_stay_text(kafka: KafkaConfig, tmp_path: Path, browser: Browser) -> None:
    one = Duplicate(SCRIPT_TAG, 0.97, 5, 0.9, edit=SCRIPT_TAG, points=((0.1, 0.1, 0.2, 0.2),))
    told = {"sku": "4711", SCRIPT_TAG: SCRIPT_TAG}
    send(
        kafka,
        DUPLICATES,
        [(SCRIPT_TAG, Duplicates(1, SCRIPT_TAG, (one,), metadata=told))],
        headers=[("trace", SCRIPT_TAG.encode())],
    )
    with bridge(kafka, tmp_path) as asked:
        asked.wait_ready()
        with opened(browser, asked, "/alerts") as page:
            card = page.locator("#alerts .card")
            expect(card.locator("h3")).to_have_text(SCRIPT_TAG)
            expect(card.locator(".edit")).to_have_text(SCRIPT_TAG)
            expect(card.locator(".told li")).to_have_text(
                ["sku 4711", f"{SCRIPT_TAG} {SCRIPT_TAG}", f"trace {SCRIPT_TAG}"]
            )
            # neither image is there
            expect(card.locator(".gone")).to_have_text(["cannot be shown", "cannot be shown"])
            assert page.locator("#alerts script, #alerts img").count() == 0
            assert page.title() == "Duplicates"
            page.locator("body").evaluate(DROP, [SCRIPT_TAG, base64.b64encode(b"x").decode()])
            expect(page.locator("#answer .trouble")).to_be_visible()
            assert page.title() == "Duplicates"


def test_what_a_stage_waits_for_and_what_could_not_be_used_is_said_in_plain_words(
    kafka: KafkaConfig, tmp_path: Path, browser: Browser
) -> None:
    names = [("topic", "images.new"), ("partition", "0"), ("offset", "0"), ("error-type", "MissingImage")]

    def set_aside(path: str) -> None:
        said = [("stage", "encoder"), *names, ("error-message", f"{path}: there is no such file")]
        send_raw(kafka, DEAD_LETTERS, [(path.encode(), b"x")], headers=said)

    encoder = StateReporter(replace(kafka, member="encoder-0"), "encoder")
    matcher = StateReporter(replace(kafka, member="matcher-0", restarts=3), "matcher")
    with bridge(kafka, tmp_path) as asked, encoder, matcher:
        asked.wait_ready()
        with opened(browser, asked, "/alerts") as page:
            expect(page.locator("#link")).to_have_text("live")
            expect(page.locator("#aside")).to_be_hidden()
            encoder.report(State.WAITING, "the folder of images /mnt is away")
            matcher.report(State.DIED, SCRIPT_TAG)
            doing = page.locator(".doing .bad")
            expect(doing).to_have_text(
                [
                    "encoder-0 waits: the folder of images /mnt is away",
                    f"matcher-0 died, started again 3 times: {SCRIPT_TAG}",
                ]
            )
            set_aside(SCRIPT_TAG)
            set_aside("shop/gone.png")
            expect(page.locator("#aside")).to_contain_text("2 announcements.")
            expect(page.locator("#dead .path")).to_have_text(["shop/gone.png", SCRIPT_TAG])
            expect(page.locator("#dead li").first).to_contain_text("there is no such file")
            assert page.title() == "Duplicates"
            encoder.report(State.RUNNING)
            matcher.report(State.RUNNING)
            expect(page.locator(".doing")).to_have_text(["matcher-0 runs, started again 3 times"])


def test_a_broker_that_is_away_is_said_plainly_and_its_return(tmp_path: Path, browser: Browser) -> None:
    broker = LocalKafka.start(tmp_path / "kafka")
    port = int(broker.bootstrap.rpartition(":")[2])
    kafka = KafkaConfig(broker.bootstrap)
    create_topics(kafka)
    try:
        with bridge(kafka, tmp_path) as asked:
            asked.wait_ready()
            with opened(browser, asked, "/alerts") as page:
                expect(page.locator("#link")).to_have_text("live")
                broker.stop()
                expect(page.locator("#trouble")).to_contain_text("no Kafka answers")
                expect(page.locator("#link")).to_have_text("interrupted")
                broker = LocalKafka.start(tmp_path / "kafka", port=port)
                expect(page.locator("#trouble")).to_be_hidden()
                expect(page.locator("#link")).to_have_text("live")
                send(kafka, DUPLICATES, [("a", Duplicates(1, "a", (Duplicate("b", 0.99),)))])
                expect(page.locator("#alerts .card")).to_have_count(1)
    finally:
        broker.stop()


def test_the_page_of_the_interface_shows_every_path(
    service: tuple[KafkaConfig, Path, Bridge], browser: Browser
) -> None:
    _, _, asked = service
    paths = asked.get("/openapi.json").json["paths"]
    with opened(browser, asked, "/alerts") as page:
        page.get_by_role("link", name="HTTP interface").click()
        page.locator(".operation").first.wait_for()
        shown = page.locator(".operation summary code").all_text_contents()
        assert set(shown) == set(paths)
        page.locator(".operation summary").first.click()
        expect(page.locator(".operation pre").first).to_contain_text("request_id")


def test_the_door_lets_in_who_knows_the_token(
    service: tuple[KafkaConfig, Path, Bridge], tmp_path: Path, browser: Browser
) -> None:
    kafka, images, _ = service
    with bridge(kafka, tmp_path, images=images, BRIDGE_TOKEN="a secret") as locked:
        locked.wait_ready()
        with opened(browser, locked, "/") as page:
            page.get_by_label("Token").fill("wrong")
            page.keyboard.press("Enter")
            expect(page.get_by_role("alert")).to_have_text("That is not the token.")
            page.get_by_label("Token").fill("a secret")
            page.keyboard.press("Enter")
            expect(page.locator("#link")).to_have_text("live")
