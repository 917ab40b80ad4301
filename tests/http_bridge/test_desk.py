"""The desk in a real browser: a shift by keyboard alone, others who decide meanwhile, a phone, names with markup."""

import hashlib
import uuid
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from imagetools.grouping.records import Choice
from schemas.group_records import DecisionRecord, GroupEdge, GroupRecord, ImageContent, decision_id
from streams.config import KafkaConfig
from streams.topics import DECISIONS, DUPLICATES, GROUPS
from tests.support.bridging import Bridge, bridge, eventually
from tests.support.browsing import opened
from tests.support.grouping import alert_of, content_of, group_of
from tests.support.streaming import Reader, scene, send

SHIFT = 50
SCRIPT_TAG = "<script>document.title='taken'</script><img src=x onerror=document.title='taken'>.png"
KEYS = {"l": "left", "r": "right", "b": "both", "n": "different", "w": "later"}


@pytest.fixture
def service(kafka: KafkaConfig, tmp_path: Path) -> Iterator[tuple[KafkaConfig, Bridge]]:
    """A bridge without stages: its topics hold what a test produces."""
    images = tmp_path / "images"
    images.mkdir()
    scene(1, (320, 240)).save(images / "a.png")
    scene(1, (320, 240)).crop((40, 30, 280, 210)).save(images / "b.png")
    with bridge(kafka, tmp_path) as found:
        found.wait_ready()
        eventually(lambda: found.get("/v1/groups").status == 200)
        yield kafka, found


def put(service: tuple[KafkaConfig, Bridge], *groups: GroupRecord) -> None:
    kafka, asked = service
    before = asked.get("/v1/groups?state=all").json["response"]["total"]
    send(kafka, GROUPS, [(group.id, group) for group in groups])
    eventually(lambda: asked.get("/v1/groups?state=all").json["response"]["total"] == before + len(groups))


def decided(kafka: KafkaConfig) -> list[DecisionRecord | None]:
    reader = Reader(kafka, DECISIONS).settled(0.5)
    reader.close()
    return reader.seen["decisions"]


def title(page: Page) -> Any:
    return page.locator("#group-title")


def test_a_shift_of_fifty_groups_by_keyboard_alone(service: tuple[KafkaConfig, Bridge], browser: Browser) -> None:
    kafka, asked = service
    put(service, *[group_of(f"{n:02}.jpg", f"{n:02} copy.jpg") for n in range(SHIFT)])
    with opened(browser, asked, "/") as page:
        expect(page.locator("#link")).to_have_text("live")
        # by the keyboard to one's name, and back to the group
        page.locator("#who").focus()
        page.keyboard.type("Zoë")
        page.keyboard.press("Enter")
        said = []
        for n in range(SHIFT):
            expect(title(page)).to_have_text(f"{n:02}.jpg")
            expect(page.locator("#count")).to_have_text(
                f"{SHIFT - n} {'group' if n == SHIFT - 1 else 'groups'} waiting"
            )
            key = list(KEYS)[n % len(KEYS)]
            page.keyboard.press(key)
            said.append(KEYS[key])
        expect(page.locator("#none")).to_contain_text("No group waits.")
        expect(page.locator("#history li")).to_have_count(30)
        expect(page.locator("#history li").first).to_contain_text("Zoë: later")
    records = decided(kafka)
    assert len(records) == SHIFT
    for n, (record, what) in enumerate(zip(records, said, strict=True)):
        left, right = f"{n:02}.jpg", f"{n:02} copy.jpg"
        assert record is not None
        assert record.who == "Zoë"
        assert record.images == (ImageContent(left, content_of(left)), ImageContent(right, content_of(right)))
        keep = {"left": (left,), "right": (right,), "both": (left, right)}.get(what, ())
        choice = {"different": Choice.NOT_DUPLICATE, "later": Choice.LATER}.get(what, Choice.DUPLICATE)
        assert (record.decision, record.keep) == (choice, keep)


def test_undo_brings_the_group_back(service: tuple[KafkaConfig, Bridge], browser: Browser) -> None:
    kafka, asked = service
    put(service, group_of("a.png", "b.png"), group_of("c.png", "d.png"))
    with opened(browser, asked, "/") as page:
        expect(title(page)).to_have_text("a.png")
        page.keyboard.press("n")
        expect(title(page)).to_have_text("c.png")
        page.keyboard.press("u")
        expect(title(page)).to_have_text("a.png")
        expect(page.locator("#notice")).to_have_text("Undone: not duplicates.")
        page.keyboard.press("u")
        expect(page.locator("#notice")).to_contain_text("Nothing to undo")
    assert [record and record.decision for record in decided(kafka)] == [Choice.NOT_DUPLICATE, None]


def test_after_undo_a_group_that_had_ended_is_waited_for(service: tuple[KafkaConfig, Bridge], browser: Browser) -> None:
    kafka, asked = service
    put(service, group_of("a.png", "b.png"), group_of("c.png", "d.png"))
    with opened(browser, asked, "/") as page:
        expect(title(page)).to_have_text("a.png")
        page.keyboard.press("n")
        expect(title(page)).to_have_text("c.png")
        send(kafka, GROUPS, [("a.png", None)])
        eventually(lambda: asked.get("/v1/groups/a.png").status == 404)
        page.keyboard.press("u")
        expect(page.locator("#notice")).to_contain_text("Its group comes back in a moment")
        page.keyboard.press("l")
        send(kafka, GROUPS, [("a.png", group_of("a.png", "b.png"))])
        expect(title(page)).to_have_text("a.png")
        expect(page.locator("#notice")).to_have_text("Undone: not duplicates.")
    assert len(decided(kafka)) == 2


def test_a_pair_that_somebody_takes_away_stays_in_place_until_the_person_goes_on(
    service: tuple[KafkaConfig, Bridge], browser: Browser
) -> None:
    kafka, asked = service
    put(service, group_of("a.png", "b.png", "c.png"), group_of("x.png", "y.png"))
    with opened(browser, asked, "/") as page:
        pressed = page.locator(".thumb[aria-pressed=true]")
        expect(pressed).to_contain_text("b.png")
        send(kafka, GROUPS, [("a.png", group_of("a.png", "c.png"))])
        expect(page.locator("#held-says")).to_have_text("This group has changed: another pair comes now.")
        page.keyboard.press("l")
        expect(pressed).to_contain_text("b.png")
        # as it was before: nothing to go on from
        send(kafka, GROUPS, [("a.png", group_of("a.png", "b.png", "c.png"))])
        expect(page.locator("#held")).to_be_hidden()
        send(kafka, GROUPS, [("a.png", None)])
        expect(page.locator("#held-says")).to_have_text("This group has ended.")
        page.keyboard.press("l")
        page.locator("#go-on").click()
        expect(title(page)).to_have_text("x.png")
    assert decided(kafka) == []


def test_a_neighbor_of_two_images_is_told_apart_and_has_its_facts(
    service: tuple[KafkaConfig, Bridge], browser: Browser
) -> None:
    _, asked = service
    a, b, x = (ImageContent(path, content_of(path)) for path in ("a.png", "b.png", "x.png"))
    doubtful = (GroupEdge(a, x, "same", 0.8), GroupEdge(b, x, "same", 0.8))
    put(service, group_of("a.png", "b.png", doubtful=doubtful, chosen=True), group_of("x.png", "y.png"))
    with opened(browser, asked, "/") as page:
        thumbs = page.locator(".thumb")
        expect(thumbs).to_contain_text(["b.png", "doubtful, beside a.png", "doubtful, beside b.png"])
        expect(page.locator(".facts .pill")).to_have_text("chosen")
        # no alert names the two: nothing says how one lies over the other
        expect(page.locator("#evidence")).to_contain_text("there is no difference to show")
        expect(page.locator("#mode option[value=difference]")).to_be_disabled()
        for mode in ("blink", "slider", "beside"):
            page.keyboard.press("v")
            expect(page.locator("#viewer")).to_have_attribute("data-mode", mode)
        thumbs.nth(1).click()
        cells = page.locator(".facts tbody tr", has_text="Dimensions").locator("td")
        expect(cells).to_have_text(["800 × 600", "800 × 600"])


def test_of_a_group_of_three_each_is_compared_with_the_one_to_keep(
    service: tuple[KafkaConfig, Bridge], browser: Browser
) -> None:
    kafka, asked = service
    put(service, group_of("a.png", "b.png", "c.png"), group_of("x.png", "y.png", "z.png"))
    with opened(browser, asked, "/") as page:
        expect(page.locator(".thumb[aria-pressed=true]")).to_contain_text("b.png")
        page.keyboard.press("r")
        # b.png is the one to keep now
        expect(page.locator(".facts thead th")).to_contain_text(["left b.png", "right c.png"])
        page.keyboard.press("n")
        expect(title(page)).to_have_text("x.png")
        page.keyboard.press("a")
        expect(page.locator("#none")).to_be_visible()
    first, second, third = decided(kafka)
    assert first is not None
    assert second is not None
    assert third is not None
    assert ([one.relative_path for one in first.images], first.keep) == (["a.png", "b.png"], ("b.png",))
    assert [one.relative_path for one in second.images] == ["b.png", "c.png"]
    assert ([one.relative_path for one in third.images], third.keep, third.group) == (
        ["x.png", "y.png", "z.png"], ("x.png",), "x.png",
    )  # fmt: skip


def test_after_undo_the_same_pair_is_compared_again(service: tuple[KafkaConfig, Bridge], browser: Browser) -> None:
    _, asked = service
    put(service, group_of("a.png", "b.png", "c.png"))
    with opened(browser, asked, "/") as page:
        pressed = page.locator(".thumb[aria-pressed=true]")
        expect(pressed).to_contain_text("b.png")
        page.keyboard.press("r")
        expect(page.locator(".facts thead th").first).to_have_text("left b.png")
        page.keyboard.press("u")
        expect(page.locator(".facts thead th").first).to_contain_text("left a.png")
        expect(pressed).to_contain_text("b.png")


def test_a_doubtful_pair_waits_for_a_word_too(service: tuple[KafkaConfig, Bridge], browser: Browser) -> None:
    kafka, asked = service
    left, other = ImageContent("b.png", content_of("b.png")), ImageContent("x.png", content_of("x.png"))
    put(service, group_of("a.png", "b.png", doubtful=(GroupEdge(left, other, "same", 0.8),)))
    with opened(browser, asked, "/") as page:
        expect(page.locator(".thumb[aria-pressed=true]")).to_contain_text("b.png")
        page.keyboard.press("l")
        pressed = page.locator(".thumb[aria-pressed=true]")
        expect(pressed).to_contain_text("another group: doubtful")
        expect(page.locator(".facts thead th")).to_have_text(["left b.png", "right x.png"])
        page.keyboard.press("n")
        expect(page.locator("#none")).to_be_visible()
    assert [record and record.images for record in decided(kafka)][1] == (left, other)


def test_the_pictures_lie_over_each_other_and_are_seen_in_step(
    service: tuple[KafkaConfig, Bridge], browser: Browser
) -> None:
    kafka, asked = service
    send(kafka, DUPLICATES, [("b.png", alert_of("b.png", ("a.png", 0.9)))])
    put(service, group_of("a.png", "b.png"))
    with opened(browser, asked, "/") as page:
        drawings = page.locator(".drawing")
        expect(drawings.nth(1).locator("image")).to_have_count(1)
        expect(page.locator("#evidence")).to_contain_text("Certainty 0.90")
        outline = drawings.nth(0).locator("polygon.region")
        expect(outline).to_be_visible()
        points = (outline.get_attribute("points") or "").split()
        sides = sorted({round(float(point.split(",")[0])) for point in points})
        # the points say that the right picture fills the middle three quarters
        assert sides == [round(1000 * 4 / 3 * share) for share in (0.125, 0.875)]
        page.keyboard.press("o")
        expect(outline).to_be_hidden()
        whole = drawings.nth(0).get_attribute("viewBox")
        drawings.nth(0).focus()
        page.keyboard.press("+")
        seen = drawings.nth(0).get_attribute("viewBox")
        assert seen != whole
        assert drawings.nth(1).get_attribute("viewBox") == seen
        page.keyboard.press("ArrowRight")
        assert drawings.nth(1).get_attribute("viewBox") not in (seen, whole)
        page.keyboard.press("0")
        assert drawings.nth(1).get_attribute("viewBox") == whole
        for mode in ("blink", "slider", "difference"):
            page.keyboard.press("v")
            expect(page.locator("#viewer")).to_have_attribute("data-mode", mode)
            expect(drawings.nth(1)).to_be_hidden()
        better = page.locator(".facts tbody tr", has_text="Dimensions").locator("td")
        expect(better).to_have_text(["800 × 600 ✓ better", "400 × 300"])


def test_what_others_say_is_seen_at_once_and_not_replaced_unseen(
    service: tuple[KafkaConfig, Bridge], browser: Browser
) -> None:
    kafka, asked = service
    put(service, group_of("a.png", "b.png"), group_of("c.png", "d.png"))
    body = {"left": "a.png", "right": "b.png", "decision": "not_duplicate"}
    with opened(browser, asked, "/") as page, opened(browser, asked, "/") as cut_off:
        # one that hears nothing of the other
        cut_off.route("**/v1/duplicates/stream", lambda route: route.abort())
        cut_off.reload()
        expect(title(page)).to_have_text("a.png")
        expect(title(cut_off)).to_have_text("a.png")
        assert asked.post("/v1/decisions", {"who": "Ann", "decisions": [body]}).status == 200
        expect(page.locator("#held-says")).to_have_text("Ann has just decided on this pair: not duplicates.")
        expect(page.locator("#history li").first).to_contain_text("Ann: not duplicates")
        expect(page.locator("#history li").first).to_contain_text("a.png and b.png")
        # the pair stays, and no key decides on it or on another one, until the person goes on
        expect(page.locator("#do-left")).to_be_disabled()
        for key in "lrnw":
            page.keyboard.press(key)
        expect(title(page)).to_have_text("a.png")
        page.keyboard.press("g")
        expect(title(page)).to_have_text("c.png")
        expect(page.locator("#held")).to_be_hidden()
        cut_off.keyboard.press("l")
        expect(cut_off.locator("#conflict-says")).to_contain_text("Ann said “not duplicates” of a.png and b.png")
        expect(cut_off.locator("#yield")).to_be_focused()
        assert len(decided(kafka)) == 1
        cut_off.locator("#insist").click()
        expect(title(cut_off)).to_have_text("c.png")
        expect(page.locator("#history li").first).to_contain_text("somebody: keep a.png")
    assert [record and record.decision for record in decided(kafka)] == [Choice.NOT_DUPLICATE, Choice.DUPLICATE]


def test_all_identical_files_are_decided_at_once(service: tuple[KafkaConfig, Bridge], browser: Browser) -> None:
    kafka, asked = service
    same = hashlib.sha256(b"same").digest()
    put(
        service,
        group_of("0 other.jpg", "0 resized.jpg"),
        *[group_of(f"{n}.jpg", f"{n} copy.jpg", relations=["identical"], content=same) for n in range(1, 8)],
    )
    images = (ImageContent("3.jpg", same), ImageContent("3 copy.jpg", same))
    send(
        kafka, DECISIONS, [(decision_id(images), DecisionRecord(decision_id(images), Choice.LATER, images, who="Ann"))]
    )
    eventually(lambda: asked.get("/v1/groups?later=yes").json["response"]["total"] == 1)
    with opened(browser, asked, "/") as page:
        expect(page.locator("#bulk")).to_be_hidden()
        page.get_by_label("Relation").select_option("identical")
        expect(page.locator("#count")).to_have_text("6 groups waiting")
        page.on("dialog", lambda dialog: dialog.accept())
        page.locator("#bulk").click()
        expect(page.locator("#notice")).to_have_text("6 groups decided.")
    made = [record for record in decided(kafka) if record and record.decision is Choice.DUPLICATE]
    assert [(record.keep, record.group) for record in made] == [((f"{n}.jpg",), f"{n}.jpg") for n in (1, 2, 4, 5, 6, 7)]


def test_identical_files_that_no_single_request_names_are_decided_at_once(
    service: tuple[KafkaConfig, Bridge], browser: Browser
) -> None:
    kafka, asked = service
    long = "x" * 1000
    for n in range(3):
        paths = [f"{n} {copy} {long}.jpg" for copy in range(400)]
        put(service, group_of(*paths, relations=["identical"] * 400, content=hashlib.sha256(b"same").digest()))
    with opened(browser, asked, "/") as page:
        page.get_by_label("Relation").select_option("identical")
        expect(page.locator("#count")).to_have_text("3 groups waiting")
        page.on("dialog", lambda dialog: dialog.accept())
        page.locator("#bulk").click()
        expect(page.locator("#notice")).to_have_text("3 groups decided.")
    assert [record and len(record.images) for record in decided(kafka)] == [400, 400, 400]


def test_a_large_group_is_put_off_whole_or_says_that_it_cannot_be(
    service: tuple[KafkaConfig, Bridge], browser: Browser
) -> None:
    kafka, asked = service
    put(service, group_of(*[f"a {n}.png" for n in range(600)]), group_of(*[f"b {n}.png" for n in range(5001)]))
    with opened(browser, asked, "/") as page:
        expect(title(page)).to_have_text("a 0.png")
        page.keyboard.press("w")
        expect(title(page)).to_have_text("b 0.png")
        expect(page.locator("#do-later")).to_be_disabled()
        expect(page.locator("#group-says")).to_contain_text("too large to put off")
        page.keyboard.press("u")
        expect(page.locator("#notice")).to_have_text("Undone: later.")
    record, undone = decided(kafka)
    assert record is not None
    assert (len(record.images), undone) == (600, None)


def test_filters_find_groups_by_path(service: tuple[KafkaConfig, Bridge], browser: Browser) -> None:
    _, asked = service
    put(service, group_of("a.png", "b.png"), group_of("shop/c.png", "shop/d.png"))
    with opened(browser, asked, "/") as page:
        expect(page.locator("#count")).to_have_text("2 groups waiting")
        search = page.get_by_label("Path or metadata contains")
        search.fill("SHOP/D")
        search.press("Enter")
        expect(title(page)).to_have_text("shop/c.png")
        expect(page.locator("#count")).to_have_text("1 group waiting")
        # not all that wait are meant by a filter
        search.fill("no such path")
        search.press("Enter")
        expect(page.locator("#none-fits")).to_contain_text("No group fits these filters.")
        expect(page.locator("#others-wait")).to_have_text("2 groups wait.")
        expect(page.locator("#none")).to_be_hidden()
        page.locator("#all-groups").click()
        expect(title(page)).to_have_text("a.png")
        # a letter that is typed decides nothing
        search.press("n")
        expect(page.locator("#history")).to_contain_text("Nobody has decided anything yet.")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_a_phone(service: tuple[KafkaConfig, Bridge], browser: Browser, scheme: Any) -> None:
    _, asked = service
    name = "a folder with a long name/and another one/" + uuid.uuid4().hex * 3 + ".png"
    put(service, group_of(name, "b.png", "c.png"))
    with opened(
        browser, asked, "/", viewport={"width": 320, "height": 640}, color_scheme=scheme, has_touch=True
    ) as page:
        expect(title(page)).to_have_text(name)
        assert page.locator("html").evaluate("e => e.scrollWidth") <= 320
        small = page.locator("#actions button:visible").evaluate_all(
            "all => all.filter((e) => e.offsetHeight < 40).length"
        )
        assert small == 0
        # the pictures lie one above the other
        expect(page.locator("#do-left, #do-right")).to_contain_text(["Keep upper", "Keep lower"])
        expect(page.locator(".facts thead th")).to_have_text([f"upper {name}suggested", "lower b.png"])
        page.set_viewport_size({"width": 1200, "height": 800})
        expect(page.locator("#do-left, #do-right")).to_contain_text(["Keep left", "Keep right"])
        page.set_viewport_size({"width": 320, "height": 640})
        page.get_by_role("button", name="Not a duplicate").tap()
        expect(page.locator(".thumb[aria-pressed=true]")).to_contain_text("c.png")


def test_names_that_are_markup_stay_text(service: tuple[KafkaConfig, Bridge], browser: Browser) -> None:
    _, asked = service
    put(service, group_of(SCRIPT_TAG, f"copy of {SCRIPT_TAG}", "b.png"))
    body = {"group": SCRIPT_TAG, "decision": "later", "note": SCRIPT_TAG}
    assert asked.post("/v1/decisions", {"who": SCRIPT_TAG, "decisions": [body]}).status == 200
    with opened(browser, asked, "/") as page:
        page.locator("select[name=state]").select_option("later")
        expect(title(page)).to_have_text(SCRIPT_TAG)
        expect(page.locator("#history li").first).to_contain_text(SCRIPT_TAG)
        assert page.locator("main script, main img[src=x]").count() == 0
        assert page.title() == "Duplicates"


@pytest.mark.parametrize("width", [320, 1280])
def test_metadata_stands_below_the_file_facts_as_text(
    service: tuple[KafkaConfig, Bridge], browser: Browser, width: int
) -> None:
    _, asked = service
    one, another = (ImageContent(path, content_of(path)) for path in ("a.png", "x.png"))
    group = group_of("a.png", "b.png", doubtful=(GroupEdge(one, another, "same", 0.9),))
    left = {"sku": "4711", "note": f"{SCRIPT_TAG}\nsecond line", "url": "https://shop.example/" + "x" * 300}
    members = (replace(group.members[0], metadata=left), replace(group.members[1], metadata={"sku": "0815"}))
    put(service, replace(group, members=members), group_of("c.png", "d.png"))
    with opened(browser, asked, "/", viewport={"width": width, "height": 800}) as page:
        expect(title(page)).to_have_text("a.png")
        rows = page.locator("#facts .told tr")
        expect(rows.nth(0)).to_have_text("Metadata")
        expect(rows.nth(1).locator("th, td")).to_have_text(["sku", "4711", "0815"])
        expect(rows.nth(2)).to_contain_text(SCRIPT_TAG)
        expect(rows.nth(2).locator("td").nth(1)).to_have_text("–")
        page.get_by_role("button", name="x.png").click()
        expect(rows.nth(1).locator("th, td")).to_have_text(["sku", "4711", "not known"])
        assert page.locator("main script, main img[src=x]").count() == 0
        assert page.locator("html").evaluate("e => e.scrollWidth") <= width
        if width < 1000:
            page.get_by_text("Which groups").click()
        search = page.get_by_label("Path or metadata contains")
        search.fill("SKU=0815")
        search.press("Enter")
        expect(page.locator("#count")).to_have_text("1 group waiting")
        search.fill("c.png")
        search.press("Enter")
        expect(title(page)).to_have_text("c.png")
        expect(page.locator("#facts .told")).to_have_count(0)


def test_every_control_has_a_name(service: tuple[KafkaConfig, Bridge], browser: Browser) -> None:
    _, asked = service
    put(service, group_of("a.png", "b.png", "c.png"))
    with opened(browser, asked, "/") as page:
        expect(title(page)).to_have_text("a.png")
        controls = page.locator("button:visible, input:visible, select:visible, a:visible, [tabindex='0']:visible")
        for n in range(controls.count()):
            snapshot = controls.nth(n).aria_snapshot()
            assert '"' in snapshot, snapshot
        reached = []
        for _ in range(30):
            page.keyboard.press("Tab")
            reached.append(page.locator("html").evaluate("() => document.activeElement.id"))
        assert {"who", "mode", "slider", "outline", "do-left", "do-undo"} - {"slider"} <= set(reached)
