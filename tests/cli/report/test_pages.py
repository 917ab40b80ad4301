import json
import random
import re
from collections.abc import Mapping
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
from PIL import Image

from cli.picture import SIDE, pair_picture, side_by_side
from cli.report.alike import SHOWN_PAIRS, SHOWN_SETS
from cli.report.group_cards import FIRST_PAIRS, MOST_PAIRS, PAGE_GROUPS
from imagetools.folder import REPORT_FILES
from imagetools.image_root import ImageRoot
from tests.support.reporting import write_plain_report

STATS = {"images": 1234, "seconds": 2.5}
WICKED = "<script>alert(1)<\\script>&\"'.jpg"


def photo(width: int = 300, height: int = 200, seed: int = 1) -> Image.Image:
    rng = random.Random(seed)
    return Image.frombytes("RGB", (6, 4), rng.randbytes(72)).resize((width, height), Image.Resampling.BICUBIC)


def duplicate(path: str, score: float = 0.99, **evidence: Any) -> dict[str, Any]:
    return {
        "relative_path": path,
        "score": score,
        "inliers": 2,
        "agreement": 0.9,
        "mirrored": False,
        "scale": 1.0,
        "angle": 0.0,
        "coverage_candidate": 1.0,
        "coverage_neighbor": 0.4,
        "edit": "cropped to 40 %",
        "points": [[0.0, 0.0, 0.5, 0.5], [1.0, 1.0, 0.75, 0.25]],
        **evidence,
    }


def alert(
    candidate: str, *duplicates: Mapping[str, Any], time: str = "2026-01-01T00:00:00.000+00:00"
) -> dict[str, Any]:
    return {
        "request_id": 1,
        "candidate": candidate,
        "duplicated": list(duplicates),
        "model": "resnet18.th",
        "threshold": 0.75,
        "time": time,
    }


class Page(HTMLParser):
    """The tags of a page with their attributes, and the text of each summary, caption and name."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.text = text
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.words: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {name: value or "" for name, value in attrs}))

    def handle_data(self, data: str) -> None:
        if data.strip():
            self.words.append(" ".join(data.split()))

    def all(self, tag: str, name: str = "") -> list[str]:
        """The attribute's value in each such tag."""
        return [attributes.get(name, "") for found, attributes in self.tags if found == tag]


@pytest.fixture
def images(tmp_path: Path) -> ImageRoot:
    folder = tmp_path / "images"
    folder.mkdir()
    for number, name in enumerate(["a.jpg", "b.jpg", "c.jpg", "d.jpg", "e.jpg"]):
        photo(300, 200 + 40 * number, seed=number).save(folder / name)
    return ImageRoot(folder)


def report(tmp_path: Path, alerts: list[dict[str, Any]], images: ImageRoot, title: str = "Duplicates") -> Page:
    write_plain_report(tmp_path / "report", alerts, images, title=title, stats=STATS)
    return Page((tmp_path / "report" / "report.html").read_text("utf-8"))


def names_of_pairs(page: Page) -> list[str]:
    return re.findall(r"<bdi>(.*?)</bdi>", "".join(re.findall("(?s)<figure.*?</figure>", page.text)))


class TestReport:
    def test_groups_are_what_pairs_join_the_largest_first(self, tmp_path: Path, images: ImageRoot) -> None:
        alerts = [
            alert("b.jpg", duplicate("a.jpg")),
            alert("d.jpg", duplicate("c.jpg")),
            alert("e.jpg", duplicate("d.jpg", score=0.8)),
        ]
        page = report(tmp_path, alerts, images)
        assert [word for word in page.words if re.fullmatch(r"\d images, \d pairs?", word)] == [
            "3 images, 2 pairs",
            "2 images, 1 pair",
        ]
        # the earlier on the left, the surest pair first
        assert names_of_pairs(page) == ["c.jpg", "d.jpg", "d.jpg", "e.jpg", "a.jpg", "b.jpg"]
        assert page.words.count("cropped to 40 %") == 3
        assert page.all("span", "class").count("score sure") == 2

    def test_what_stands_at_the_top(self, tmp_path: Path, images: ImageRoot) -> None:
        page = report(tmp_path, [alert("b.jpg", duplicate("a.jpg"))], images, title="Duplicates in <here>")
        assert page.words[page.words.index("images") + 1] == "1,234"
        assert page.words[page.words.index("seconds") + 1] == "2.5"
        assert "<here>" not in page.text
        assert page.words.count("Duplicates in <here>") == 2

    def test_thumbnails_are_small_lazy_and_beside_the_page(self, tmp_path: Path, images: ImageRoot) -> None:
        photo(3000, 2000).save(Path(images.name) / "a.jpg")
        page = report(tmp_path, [alert("b.jpg", duplicate("a.jpg"))], images)
        assert set(page.all("img", "loading")) == {"lazy"}
        shown = [tmp_path / "report" / source for source in page.all("img", "src")]
        assert len(set(shown)) == 2
        for path in shown:
            with Image.open(path) as thumbnail:
                assert max(thumbnail.size) in (300, 480)

    def test_nothing_is_asked_of_a_network(self, tmp_path: Path, images: ImageRoot) -> None:
        page = report(tmp_path, [alert("b.jpg", duplicate("a.jpg"))], images)
        assert "default-src 'none'" in page.text
        assert not re.search(r"https?://|url\(|@import|//[a-z]", page.text)

    def test_links_lead_to_the_images(self, tmp_path: Path, images: ImageRoot) -> None:
        photo().save(Path(images.name) / "100% #1?.jpg")
        page = report(tmp_path, [alert("b.jpg", duplicate("100% #1?.jpg"))], images)
        assert page.all("a", "href")[:2] == ["../images/100%25%20%231%3F.jpg", "../images/b.jpg"]

    def test_lines_join_the_points_of_the_two_images(self, tmp_path: Path, images: ImageRoot) -> None:
        page = report(tmp_path, [alert("b.jpg", duplicate("a.jpg"))], images)
        # a.jpg is 1000 × 667 units and centred beside b.jpg, 1000 × 800 after a gap of 60
        assert page.all("svg", "viewbox") == ["0 0 2060 800"]
        assert page.all("path", "d")[0] == "M500 400L1060 0M750 233L2060 800"

    def test_a_pair_without_points_says_why(self, tmp_path: Path, images: ImageRoot) -> None:
        same = duplicate("a.jpg", 1.0, inliers=0, agreement=1.0, points=[], edit="the same file")
        plain = duplicate("c.jpg", 0.8, inliers=0, agreement=0.93, points=[], edit="re-encoded")
        page = report(tmp_path, [alert("b.jpg", same), alert("d.jpg", plain)], images)
        assert not page.all("svg")
        assert "the same file" in page.words
        assert "identical" in page.words
        assert "too plain for matching points: laid over each other, 93 % agrees" in page.words

    def test_nothing_found_is_said_plainly(self, tmp_path: Path, images: ImageRoot) -> None:
        page = report(tmp_path, [], images)
        assert "No duplicates were found." in page.words
        assert not page.all("details")
        assert not page.all("script")

    def test_a_name_that_is_a_tag_stays_text(self, tmp_path: Path, images: ImageRoot) -> None:
        photo().save(Path(images.name) / WICKED)
        plain = report(tmp_path, [alert("b.jpg", duplicate("a.jpg"))], images)
        page = report(tmp_path, [alert("b.jpg", duplicate(WICKED, edit=WICKED))], images, title=WICKED)
        assert [tag for tag, _ in page.tags] == [tag for tag, _ in plain.tags]
        # title, heading, list of files, name, edit
        assert page.words.count(WICKED) == 5
        assert WICKED in page.all("img", "alt")
        assert {name for _, attributes in page.tags for name in attributes if name.startswith("on")} == set()

    @pytest.mark.parametrize(
        "name", ["mit Leerzeichen.jpg", "写真.jpg", "a\nb.jpg", "x" * 200 + ".jpg", "javascript:alert(1).jpg"]
    )
    def test_odd_names(self, tmp_path: Path, images: ImageRoot, name: str) -> None:
        photo().save(Path(images.name) / name)
        page = report(tmp_path, [alert("b.jpg", duplicate(name))], images)
        assert " ".join(name.split()) in page.words
        assert len(page.all("img")) == 4
        href = page.all("a", "href")[0]
        assert href.startswith("../images/")
        assert ":" not in href

    def test_an_image_that_is_gone_keeps_its_place(self, tmp_path: Path, images: ImageRoot) -> None:
        (Path(images.name) / "c.jpg").write_bytes(b"not an image")
        page = report(tmp_path, [alert("b.jpg", duplicate("gone.jpg")), alert("d.jpg", duplicate("c.jpg"))], images)
        assert "cannot be read: there is no such file" in page.words
        assert any(word.startswith("cannot be read: not an image") for word in page.words)
        assert "gone.jpg" in page.words
        assert not page.all("svg")

    def test_a_folder_that_is_gone_does_not_cost_the_report(self, tmp_path: Path, images: ImageRoot) -> None:
        page = report(tmp_path, [alert("b.jpg", duplicate("a.jpg"))], ImageRoot(tmp_path / "none"))
        assert sum(word.startswith("cannot be read: the folder of images") for word in page.words) == 2

    def test_a_pair_told_again_stands_once_with_the_newer_evidence(self, tmp_path: Path, images: ImageRoot) -> None:
        alerts = [
            alert("a.jpg", duplicate("b.jpg", edit="newer"), time="2026-01-02T00:00:00.000+00:00"),
            alert("b.jpg", duplicate("a.jpg", edit="older"), time="2026-01-01T00:00:00.000+00:00"),
        ]
        page = report(tmp_path, alerts, images)
        assert "newer" in page.words
        assert "older" not in page.words
        assert "2 images, 1 pair" in page.words

    def test_a_large_group_shows_its_first_pairs_and_offers_the_rest(self, tmp_path: Path, images: ImageRoot) -> None:
        for number in range(FIRST_PAIRS + 5):
            photo(20, 20, seed=number).save(Path(images.name) / f"{number}.png")
        alerts = [alert(f"{number}.png", duplicate("a.jpg")) for number in range(FIRST_PAIRS + 5)]
        page = report(tmp_path, alerts, images)
        assert "5 more pairs of this group" in page.words
        assert len(page.all("figure")) == FIRST_PAIRS + 5

    def test_a_long_report_is_cut_into_pages_that_lead_to_each_other(self, tmp_path: Path, images: ImageRoot) -> None:
        alerts = []
        for number in range(2 * PAGE_GROUPS + 1):
            for letter in "ab":
                photo(8, 8, seed=number).save(Path(images.name) / f"{number}{letter}.png")
            alerts.append(alert(f"{number}b.png", duplicate(f"{number}a.png")))
        first = report(tmp_path, alerts, images)
        folder = tmp_path / "report"
        pages = [first, *(Page((folder / REPORT_FILES / f"page-000{n}.html").read_text("utf-8")) for n in (2, 3))]
        groups = [[a["id"] for tag, a in page.tags if tag == "details"] for page in pages]
        assert [len(ids) for ids in groups] == [PAGE_GROUPS, PAGE_GROUPS, 1]
        assert groups[2] == [f"g{2 * PAGE_GROUPS + 1}"]
        for page, at in zip(pages, (folder, folder / REPORT_FILES, folder / REPORT_FILES), strict=True):
            links = [*page.all("a", "href"), *page.all("img", "src")]
            assert all((at / unquote(link)).exists() for link in links)
            assert "Page 3 of 3" in pages[2].words
        listed = json.loads((folder / REPORT_FILES / "paths.js").read_text()[len("takePaths(") : -len(");\n")])
        assert [[page, number] for page, number, *_ in listed][::PAGE_GROUPS] == [[1, 1], [2, 51], [3, 101]]
        report(tmp_path, alerts[:1], images)
        assert not list((folder / REPORT_FILES).glob("page-*"))

    def test_a_page_holds_few_of_many_pairs(self, tmp_path: Path, images: ImageRoot) -> None:
        names = [f"{number}.png" for number in range(30)]
        for name in names:
            photo(8, 8).save(Path(images.name) / name)
        pairs = [alert(two, *(duplicate(one) for one in names[:at])) for at, two in enumerate(names) if at]
        page = report(tmp_path, pairs, images)
        assert len(page.all("figure")) == MOST_PAIRS
        assert f"{30 * 29 // 2 - MOST_PAIRS} more pairs are in alerts.jsonl." in page.words

    def test_a_group_lists_its_files_and_says_which_to_keep(self, tmp_path: Path, images: ImageRoot) -> None:
        photo(800, 533, seed=1).save(Path(images.name) / "large.png")
        alerts = [alert("b.jpg", duplicate("a.jpg")), alert("large.png", duplicate("a.jpg", relation="identical"))]
        page = report(tmp_path, alerts, images)
        words = page.words[page.words.index("Changed") :]
        assert words[1:5] == ["a.jpg", "identical", "300 × 200", "4 KB"]
        assert words[words.index("large.png") + 1 :][:2] == ["keep", "800 × 533"]
        assert words[words.index("Keep") :][:2] == ["Keep", "large.png"]
        assert words[words.index("Keep") + 2].endswith("largest picture.")
        assert re.fullmatch(r"20\d\d-\d\d-\d\d \d\d:\d\d", words[6])

    def test_a_part_is_shown_once_with_the_whole_and_joins_no_group(self, tmp_path: Path, images: ImageRoot) -> None:
        parts = [duplicate("a.jpg", relation="contains"), duplicate("b.jpg", relation="contains")]
        page = report(tmp_path, [alert("c.jpg", *parts), alert("d.jpg", duplicate("a.jpg"))], images)
        assert [word for word in page.words if re.fullmatch(r"\d images?, \d pairs?", word)] == [
            "2 images, 1 pair",
            "1 image, 2 pairs",
        ]
        assert names_of_pairs(page) == ["a.jpg", "d.jpg", "a.jpg", "c.jpg", "b.jpg", "c.jpg"]
        assert page.words.count("shows a part of it") == 2
        # one group of copies is counted, and one is numbered
        assert page.words[page.words.index("group of duplicates") + 1] == "1"
        assert [word for word in page.words if word.startswith("Group ")] == ["Group 1"]
        assert "Shares a part with others" in page.words
        assert "Pictures that share a part with it" in page.words

    def test_data_files_beside_the_page_are_linked(self, tmp_path: Path, images: ImageRoot) -> None:
        (tmp_path / "report").mkdir()
        (tmp_path / "report" / "alerts.jsonl").touch()
        assert "alerts.jsonl" in report(tmp_path, [], images).all("a", "href")


def similar(candidate: str, path: str, relation: str = "template", **more: Any) -> dict[str, Any]:
    return {
        "candidate": candidate,
        "relative_path": path,
        "relation": relation,
        "reason": "same template, other content at one place",
        "score": 0.01,
        "regions": [[0.25, 0.0, 0.5, 0.5, 0.0, 0.25, 0.5, 1.0]],
        **more,
    }


def write_alike(tmp_path: Path, images: ImageRoot, alike: list[dict[str, Any]]) -> Page:
    folder = tmp_path / "report"
    write_plain_report(folder, [], images, title="t", stats=STATS, similar=alike, similar_count=len(alike))
    return Page((folder / "report.html").read_text("utf-8"))


class TestWhatDiffers:
    def test_regions_are_outlined_on_both_images(self, tmp_path: Path, images: ImageRoot) -> None:
        found = duplicate("a.jpg", points=[], regions=[[0.25, 0.0, 0.5, 0.5, 0.0, 0.25, 0.5, 1.0]])
        page = report(tmp_path, [alert("b.jpg", found)], images)
        # a.jpg is 1000 × 667 units, 67 below the top, and the outlines lie 10 around
        assert page.all("path", "d") == ["M-10 223h520v520h-520zM1300 -10h270v420h-270z"]
        assert page.all("use", "class") == ["differs-rim", "differs"]
        assert any(word.endswith("what differs is outlined in blue") for word in page.words)

    def test_the_largest_of_many_are_outlined(self, tmp_path: Path, images: ImageRoot) -> None:
        found = duplicate("a.jpg", points=[], regions=[[0.1] * 8] * 64)
        page = report(tmp_path, [alert("b.jpg", found)], images)
        assert page.all("path", "d")[0].count("M") == 2 * 24

    @pytest.mark.parametrize(
        ("relation", "words"),
        [
            ("crop", "one shows a part of the other: the left one contains the right one"),
            ("contains", "one shows a part of the other: the right one contains the left one"),
            ("same", ""),
            ("identical", ""),
        ],
    )
    def test_a_part_is_said_to_be_one(self, tmp_path: Path, images: ImageRoot, relation: str, words: str) -> None:
        page = report(tmp_path, [alert("b.jpg", duplicate("a.jpg", relation=relation))], images)
        (said,) = [word for word in page.words if word.startswith("2 matching points")]
        assert said.endswith(f"; {words}" if words else "90 % of that agrees")


class TestAlike:
    def test_pairs_of_one_template_are_listed_closed_with_their_reason(self, tmp_path: Path, images: ImageRoot) -> None:
        alike = [similar("b.jpg", "a.jpg"), similar("c.jpg", "b.jpg"), similar("e.jpg", "d.jpg", "moved")]
        page = write_alike(tmp_path, images, alike)
        assert "No duplicates were found." in page.words
        (section,) = [attributes for tag, attributes in page.tags if tag == "details"]
        assert "open" not in section
        assert "3 pairs, alike and not the same picture" in page.words
        assert "3 images: one template, other content" in page.words
        assert "2 images: one scene, in which something moved" in page.words
        assert page.words.count("same template, other content at one place; outlined in blue") == 3
        assert re.findall(r"<bdi>(.*?)</bdi>", page.text) == ["a.jpg", "b.jpg", "b.jpg", "c.jpg", "d.jpg", "e.jpg"]
        assert len(page.all("path")) == 3
        assert len(set(page.all("img", "src"))) == 5

    def test_a_thousand_forms_take_little_room(self, tmp_path: Path, images: ImageRoot) -> None:
        for number in range(40):
            photo(8, 8, seed=number).save(Path(images.name) / f"{number}.png")
        forms = [similar(f"{one}.png", f"{two}.png") for one in range(40) for two in range(one)]
        page = write_alike(tmp_path, images, forms)
        assert len(page.all("figure")) == SHOWN_PAIRS
        assert f"{len(forms) - SHOWN_PAIRS} more pairs are in similar.jsonl." in page.words
        apart = [similar(f"{n}.png", f"{n} gone.png") for n in range(SHOWN_SETS + 5)]
        page = write_alike(tmp_path, images, apart)
        assert len(page.all("figure")) == SHOWN_SETS
        assert "5 smaller sets are in similar.jsonl." in page.words

    def test_pairs_that_were_only_counted_are_said_to_be_missing(self, tmp_path: Path, images: ImageRoot) -> None:
        folder, alike = tmp_path / "report", [similar("b.jpg", "a.jpg")]
        write_plain_report(folder, [], images, title="t", stats=STATS, similar=alike, similar_count=12_345)
        page = Page((folder / "report.html").read_text("utf-8"))
        assert "12,345 pairs, alike and not the same picture" in page.words
        assert "similar.jsonl holds the first 1 of these pairs." in page.words
        assert not any("holds the first" in word for word in write_alike(tmp_path, images, alike).words)

    def test_a_reason_that_is_a_tag_stays_text(self, tmp_path: Path, images: ImageRoot) -> None:
        page = write_alike(tmp_path, images, [similar(WICKED, "a.jpg", relation=WICKED, reason=WICKED)])
        assert "alert" not in [tag for tag, _ in page.tags]
        assert not page.all("script")
        assert any(word.startswith(WICKED) for word in page.words)


class TestPicture:
    def test_two_images_fit_beside_each_other(self) -> None:
        layout = side_by_side((400, 200), (100, 200), side=100, gap=10)
        assert (layout.width, layout.height) == (160, 100)
        assert (layout.first.x, layout.first.y, layout.first.width, layout.first.height) == (0, 25, 100, 50)
        assert (layout.second.x, layout.second.y, layout.second.width, layout.second.height) == (110, 0, 50, 100)
        assert layout.first.at(1, 1) == (100, 75)

    def test_the_picture_shows_both_and_a_line_between_the_points(self) -> None:
        red, blue = Image.new("RGB", (200, 200), "red"), Image.new("RGB", (100, 200), "blue")
        plain = pair_picture(red, blue, [], "")
        lined = pair_picture(red, blue, [(0.5, 0.5, 0.5, 0.5)], "")
        assert plain.size == lined.size == (32 + SIDE + 16 + SIDE // 2, 32 + SIDE)
        assert plain.getpixel((100, 300)) == (255, 0, 0)
        assert plain.getpixel((plain.width - 100, 300)) == (0, 0, 255)
        middle = 16 + SIDE // 2
        assert lined.getpixel((16 + SIDE // 4, middle)) == (255, 0, 0)
        changed = [x for x in range(plain.width) if plain.getpixel((x, middle)) != lined.getpixel((x, middle))]
        assert abs(min(changed) - middle) < 8
        assert abs(max(changed) - (16 + SIDE + 16 + SIDE // 4)) < 8

    def test_what_differs_is_outlined_on_both(self) -> None:
        for ground in ("red", "white", "blue", "black"):
            one, two = Image.new("RGB", (200, 200), ground), Image.new("RGB", (100, 200), ground)
            boxes = ((0.25, 0.25, 0.75, 0.75), (0.5, 0.25, 1.0, 0.5))
            plain, outlined = pair_picture(one, two, [], ""), pair_picture(one, two, [], "", [boxes])
            # the left side of each box: its outline, and a rim around it
            for x, y in ((16 + SIDE // 4, 16 + SIDE // 2), (16 + SIDE + 16 + SIDE // 4, 16 + 3 * SIDE // 8)):
                row = [outlined.getpixel((at, y)) for at in range(x - 10, x + 4)]
                assert (0, 122, 255) in row
                assert any(min(colour) > 200 for colour in row)  # type: ignore[arg-type]
                assert outlined.getpixel((x + 20, y)) == plain.getpixel((x + 20, y))

    @pytest.mark.parametrize("sizes", [((1, 1), (1, 1)), ((1, 2000), (2000, 1)), ((5000, 4000), (30, 40))])
    def test_any_size_and_a_caption_that_needs_lines(self, sizes: tuple[tuple[int, int], tuple[int, int]]) -> None:
        one, two = (Image.new("RGB", size, "white") for size in sizes)
        picture = pair_picture(one, two, [(0, 0, 1, 1)] * 64, "mirrored, turned 90° left, cropped to 40 % " * 6)
        assert picture.mode == "RGB"
        assert picture.width <= 2 * SIDE + 48
        assert picture.width >= 320
