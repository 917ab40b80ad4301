"""The grouping stage without Kafka: what messages make of the groups, and facts that give the same state again."""

import io
import random
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import ImageFilter

from imagetools.errors import ImageRootUnavailable, ImageToolsError, MessageError
from imagetools.grouping.keep import KEEP_ORDER
from imagetools.grouping.records import Choice
from imagetools.image_root import ImageRoot
from imagetools.matching.config import MatcherConfig
from schemas.codec import codec
from schemas.group_records import GroupRecord, ImageContent
from schemas.metadata import MAX_METADATA_BYTES
from streams.config import KafkaConfig
from streams.grouping.outputs import MAX_ORIGINS
from streams.grouping.state import GroupingState
from streams.grouping_consumer import GroupingStage
from streams.stage import Received
from streams.topics import DECISIONS, DUPLICATES, EMBEDDINGS, GROUPS, MAX_GROUP_BYTES, Topic
from tests.support.grouping_files import content_of, png, write
from tests.support.grouping_messages import GroupTable, alert, decision, embedding, image, key_of
from tests.support.streaming import scene


def _files() -> dict[str, bytes]:
    """Four files of one scene: the second is blurred, the third small, the fourth large."""
    blurred = io.BytesIO()
    scene(1).filter(ImageFilter.GaussianBlur(2)).save(blurred, "JPEG", quality=85)
    return {
        "a.png": png(scene(1)),
        "b.jpg": blurred.getvalue(),
        "c.png": png(scene(1).resize((120, 90))),
        "d.png": png(scene(1).resize((480, 360))),
    }


FILES = _files()
A, B, C, D = (ImageContent(path, content_of(data)) for path, data in FILES.items())


class Driven:
    """A stage, the messages that it is sent, and what it says of the groups and of its state."""

    def __init__(self, folder: Path, keep_order: Sequence[str] = KEEP_ORDER) -> None:
        self.stage = GroupingStage(KafkaConfig(), MatcherConfig(), ImageRoot(folder), keep_order=keep_order)
        self.table = GroupTable()
        self.log: list[tuple[str, Any]] = []
        self.offset = 0

    def run(self, *messages: tuple[Topic, str, Any]) -> list[str]:
        """Send messages in one batch, and return the events."""
        batch = [self.received(*message) for message in messages]
        outputs = [
            output
            for outcome in self.stage.run(batch)
            if not isinstance(outcome, ImageToolsError)
            for output in outcome
        ]
        self.stage.committed(0)
        events = []
        for output in outputs:
            if output.topic.name == "groups":
                self.table.take(output.path, output.record, output.headers)
                event = dict(output.headers)["event"] or b""
                events.append(f"{event.decode()} {output.path}")
            else:
                self.log.append((output.path, output.record))
        return events

    def received(self, topic: Topic, key: str, record: Any, **more: Any) -> Received[Any]:
        self.offset += 1
        return Received(key, record, 0, self.offset, more.pop("timestamp", 0), topic=topic.name, **more)

    def group(self, path: str) -> GroupRecord:
        return self.table.groups[path]

    def restored(self) -> list[Any]:
        """Return the groups of a state that was restored from the facts alone."""

        def compare(left: object, right: object) -> Any:
            raise AssertionError(f"{left} and {right} were compared before")

        state = GroupingState(compare)
        for key, fact in self.log:
            state.load(key, fact)
        own = self.stage.state
        assert {path: state.metadata.of(path) for path in state.images} == {
            path: own.metadata.of(path) for path in own.images
        }
        assert all(True for _ in state.divide())
        return list(state.grouping.groups())


def placed(*images: ImageContent) -> list[tuple[Topic, str, Any]]:
    return [(EMBEDDINGS, one.relative_path, embedding(one)) for one in images]


def described(one: ImageContent, **metadata: str) -> tuple[Topic, str, Any]:
    return EMBEDDINGS, one.relative_path, replace(embedding(one), metadata=metadata)


def gone(path: str) -> tuple[Topic, str, Any]:
    return EMBEDDINGS, path, None


def reported(one: ImageContent, *others: ImageContent, **more: Any) -> tuple[Topic, str, Any]:
    return DUPLICATES, one.relative_path, alert(one, *others, **more)


def decided(choice: Choice, *images: ImageContent, keep: Sequence[str] = ()) -> tuple[Topic, str, Any]:
    record = decision(choice, *images, keep=keep)
    return DECISIONS, record.id, record


@pytest.fixture
def driven(tmp_path: Path) -> Driven:
    for path, data in FILES.items():
        (tmp_path / path).write_bytes(data)
    return Driven(tmp_path)


def test_an_alert_makes_a_group_with_what_its_files_say_and_a_suggestion(driven):
    assert driven.run(*placed(A, B, C), reported(B, A), reported(C, B, A)) == ["born a.png"]
    group = driven.group("a.png")
    assert [(one.relative_path, one.relation, one.keep) for one in group.members] == [
        ("a.png", "identical", True), ("b.jpg", "same", False), ("c.png", "same", False)
    ]  # fmt: skip
    assert [(one.width, one.height, one.format) for one in group.members] == [
        (240, 180, "PNG"), (240, 180, "JPEG"), (120, 90, "PNG")
    ]  # fmt: skip
    assert (group.state, group.chosen, group.member_count) == ("open", False, 3)
    assert group.reasons[0] == "largest picture"
    assert driven.run(*placed(D), reported(D, A)) == ["grown a.png"]
    assert [one.keep for one in driven.group("a.png").members] == [False, False, False, True]


def test_another_order_of_criteria_keeps_another_image(driven, tmp_path):
    other = Driven(tmp_path, keep_order=("earliest",))
    for one in (driven, other):
        one.run(*placed(A, D), reported(D, A))
    assert [member.keep for member in driven.group("a.png").members] == [False, True]
    assert [member.keep for member in other.group("a.png").members] == [True, False]
    assert other.group("a.png").reasons == ("earliest",)


def test_groups_wait_for_an_alert_that_comes_before_its_images(driven):
    assert driven.run(reported(B, A)) == []
    assert driven.run(*placed(A)) == []
    assert driven.run(*placed(B)) == ["born a.png"]


def test_a_word_splits_a_group_until_it_is_undone_or_the_bytes_change(driven):
    driven.run(*placed(A, B), reported(B, A))
    record = decision(Choice.NOT_DUPLICATE, A, B)
    assert driven.run((DECISIONS, record.id, record)) == ["ended a.png"]
    assert driven.run(reported(B, A)) == []
    assert driven.run((DECISIONS, record.id, None)) == ["born a.png"]
    driven.run((DECISIONS, record.id, record))
    new = image("b.jpg", "new")
    assert driven.run(*placed(new), reported(new, A)) == ["born a.png"]


def test_a_decision_on_a_group_closes_it_and_a_new_image_opens_it_again(driven):
    driven.run(*placed(A, B, C), reported(B, A), reported(C, A))
    assert driven.run(decided(Choice.DUPLICATE, A, B, C, keep=["c.png"])) == ["changed a.png"]
    group = driven.group("a.png")
    assert (group.state, group.chosen, group.reasons) == ("decided", True, ())
    assert [one.relative_path for one in group.members if one.keep] == ["c.png"]
    assert driven.run(*placed(D), reported(D, A)) == ["grown a.png"]
    group = driven.group("a.png")
    assert (group.state, group.chosen) == ("open", True)
    assert [one.decided for one in group.members] == [True, True, True, False]


def test_the_newest_decision_on_a_pair_holds_whatever_its_key_and_an_older_one_after_it_is_undone(driven):
    driven.run(*placed(A, B, C), reported(B, A), reported(C, A))
    whole = decision(Choice.DUPLICATE, A, B, C)
    driven.run((DECISIONS, whole.id, whole))
    pair = decision(Choice.NOT_DUPLICATE, A, C)
    assert driven.run((DECISIONS, pair.id, pair)) == ["split a.png"]
    assert driven.run((DECISIONS, pair.id, None)) == ["grown a.png"]
    assert driven.group("a.png").state == "decided"


def test_later_takes_back_nothing_that_another_decision_says(driven):
    driven.run(*placed(A, B, C), reported(B, A), reported(C, A))
    assert driven.run(decided(Choice.NOT_DUPLICATE, A, B)) == ["split a.png"]
    later = decision(Choice.LATER, A, B, C)
    driven.run((DECISIONS, later.id, later))
    assert [one.relative_path for one in driven.group("a.png").members] == ["a.png", "c.png"]
    pair = decision(Choice.NOT_DUPLICATE, A, B)
    assert driven.run((DECISIONS, pair.id, None)) == ["grown a.png"], "then later is all that is said"


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        (decision(Choice.DUPLICATE, A), "on one image; it needs two"),
        (decision(Choice.DUPLICATE, A, image("a.png", "2")), "a path twice"),
        (decision(Choice.DUPLICATE, A, ImageContent("b.jpg", b"short")), "SHA-256"),
        (decision(Choice.NOT_DUPLICATE, A, B, C), "more than two"),
        (decision(Choice.NOT_DUPLICATE, A, B, keep=["a.png"]), "only duplicate"),
        (decision(Choice.DUPLICATE, A, B, keep=["c.png"]), "none of its images"),
    ],
)
def test_a_decision_that_cannot_hold_is_set_aside_and_says_why(driven, record, reason):
    bad = driven.received(DECISIONS, record.id, record)
    good = driven.received(*placed(A)[0])
    outcomes = driven.stage.run([good, bad])
    assert isinstance(outcomes[1], MessageError)
    assert reason in str(outcomes[1])
    assert not isinstance(outcomes[0], ImageToolsError)
    assert len(outcomes[0]) == 1, "the others of its batch count"


def test_an_older_announcement_of_another_partition_changes_nothing(driven):
    newer, older = (("announced-partition", b"1"),), (("announced-partition", b"2"),)
    state = driven.stage.state
    batch = [
        driven.received(EMBEDDINGS, "a.png", embedding(A), headers=newer, timestamp=20),
        driven.received(EMBEDDINGS, "a.png", embedding(image("a.png", "old")), headers=older, timestamp=10),
        driven.received(EMBEDDINGS, "a.png", None, headers=older, timestamp=10),
    ]
    driven.stage.run(batch)
    assert state.images["a.png"].key.content == A.content.hex()


def test_merging_groups_compares_their_earliest_images_and_what_contradicts_is_doubtful(driven, tmp_path):
    other, copy = (write(tmp_path, path, png(scene(2))) for path in ("c.png", "d.png"))
    driven.run(*placed(A, B, other, copy), reported(B, A), reported(copy, other))
    assert set(driven.table.groups) == {"a.png", "c.png"}
    assert driven.run(reported(copy, B)) == ["changed a.png", "changed c.png"]
    (edge,) = driven.group("a.png").doubtful
    assert (key_of(edge.left), key_of(edge.right)) == (key_of(B), key_of(copy))
    assert driven.restored() == list(driven.stage.state.grouping.groups()), "the answer is a fact"


def test_a_file_that_cannot_be_read_for_a_while_is_compared_when_something_happens_to_its_group(driven, tmp_path):
    (tmp_path / "c.png").rename(tmp_path / "moved")
    driven.run(*placed(A, B, C), reported(B, A), reported(C, B))
    assert set(driven.table.groups) == {"a.png", "c.png"}
    assert driven.restored() == list(driven.stage.state.grouping.groups())
    (tmp_path / "moved").rename(tmp_path / "c.png")
    assert driven.run(*placed(D), reported(D, C), reported(D, B)) == ["merged c.png", "grown a.png"]
    assert len(driven.group("a.png").members) == 4
    assert driven.restored() == list(driven.stage.state.grouping.groups())


def test_a_file_that_has_changed_since_it_was_announced_is_not_looked_at(driven, tmp_path):
    new = write(tmp_path, "c.png", png(scene(2)))
    driven.run(*placed(A, B, C), reported(B, A), reported(C, B))
    assert set(driven.table.groups) == {"a.png", "c.png"}
    assert not driven.group("c.png").members[0].width
    driven.run(*placed(new), reported(new, B))
    (edge,) = driven.group("a.png").doubtful
    assert key_of(edge.right) == key_of(new), "compared at the bytes that it has"
    assert driven.group("c.png").members[0].width == 240


def test_storage_that_is_away_is_waited_for_and_nothing_is_lost(driven, tmp_path):
    batch = [driven.received(*one) for one in (*placed(A, B), reported(B, A))]
    for path in FILES:
        (tmp_path / path).rename(tmp_path.parent / path)
    with pytest.raises(ImageRootUnavailable):
        driven.stage.run(batch)
    driven.stage.aborted()
    assert driven.stage.stale, "its state has changes that were not committed"
    with pytest.raises(ImageRootUnavailable):
        driven.stage.run(batch)


def test_an_image_that_is_gone_has_no_size_and_is_no_picture_of_another(driven, tmp_path):
    (tmp_path / "b.jpg").unlink()
    driven.run(*placed(A, B, C, D), reported(B, A), reported(D, C), reported(D, B))
    assert [one.width for one in driven.group("a.png").members][1] == 0


def test_a_record_of_many_long_paths_fits_and_lists_the_image_to_keep(driven):
    copies = [image(f"{('f' * 200 + '/') * 15}{number:05}.png", "same") for number in range(2000)]
    driven.run(*placed(*copies), *(reported(one, copies[0], relation="identical") for one in copies[1:]))
    kept = copies[-1].relative_path
    driven.run(decided(Choice.DUPLICATE, copies[-1], copies[0], keep=[kept]))
    group = driven.group(copies[0].relative_path)
    assert 1000 < len(group.members) < group.member_count == len(copies)
    assert sum(len(member.relative_path) for member in group.members) < MAX_GROUP_BYTES
    assert [member.relative_path for member in group.members if member.keep] == [kept]


def test_a_record_names_some_of_the_groups_that_became_one(driven):
    pairs = [[image(f"{number:03}{side}.png", f"{number}") for side in "ab"] for number in range(1, MAX_ORIGINS + 10)]
    driven.run(*placed(*(one for pair in pairs for one in pair)))
    firsts = [one for one, _ in pairs]
    driven.run(*(reported(two, one, relation="identical") for one, two in pairs))
    driven.run(*(decided(Choice.DUPLICATE, firsts[0], other) for other in firsts[1:]))
    assert len(driven.group(firsts[0].relative_path).origins) == MAX_ORIGINS


def test_alerts_of_earlier_versions_are_about_the_bytes_that_their_paths_have_or_get(driven):
    old = alert(ImageContent("b.jpg", b""), ImageContent("a.png", b""))
    assert driven.run((DUPLICATES, "b.jpg", old)) == []
    assert driven.run(*placed(A)) == []
    kept = len(driven.log)
    assert driven.run(*placed(B)) == ["born a.png"]
    assert driven.restored() == list(driven.stage.state.grouping.groups())
    assert any(fact is None for _, fact in driven.log[kept:]), "it waits no more"
    assert driven.run(*placed(image("b.jpg", "new"))) == ["ended a.png"]
    assert driven.run((DUPLICATES, "b.jpg", old)) == ["born a.png"]


@pytest.mark.parametrize("first", [True, False])
def test_an_alert_of_an_earlier_version_on_an_image_and_itself_says_nothing(driven, first):
    itself = DUPLICATES, "a.png", alert(ImageContent("a.png", b""), ImageContent("a.png", b""))
    assert driven.run(*([itself, *placed(A)] if first else [*placed(A), itself])) == []
    assert [key for key, _ in driven.log] == ["a.png"]


def test_facts_give_the_same_groups_again_whatever_came_in_one_batch(tmp_path):
    files = {(number, version): png(scene(number % 2), version) for number in range(6) for version in "12"}
    for number in range(6):
        write(tmp_path, f"{number}.png", files[number, "1"])
    rng = random.Random(4)
    driven = Driven(tmp_path)
    for _ in range(12):
        driven.run(*(_any_message(rng, files) for _ in range(30)))
        assert driven.restored() == list(driven.stage.state.grouping.groups())
    assert len(driven.log) > 100


def test_the_newest_metadata_of_an_image_is_in_its_groups_record(driven):
    driven.run(*placed(A, B), reported(B, A))
    assert [one.metadata for one in driven.group("a.png").members] == [{}, {}]
    assert driven.run(described(A, sku="1")) == ["changed a.png"]
    assert driven.run(described(A, sku="1")) == [], "nothing has changed"
    assert driven.run(described(C, sku="3")) == [], "it is in no group"
    assert driven.run(described(A, sku="2"), described(B, sku="2"), reported(C, A)) == ["grown a.png"]
    assert [one.metadata for one in driven.group("a.png").members] == [{"sku": "2"}, {"sku": "2"}, {"sku": "3"}]
    assert driven.run(gone("c.png"), *placed(C)) == ["changed a.png"]
    assert driven.run(*placed(B)) == ["changed a.png"]
    assert [one.metadata for one in driven.group("a.png").members] == [{"sku": "2"}, {}, {}]
    assert driven.restored() == list(driven.stage.state.grouping.groups())


def test_an_older_announcement_of_another_partition_has_no_say_in_metadata(driven):
    newer, older = (("announced-partition", b"1"),), (("announced-partition", b"2"),)
    batch = [
        driven.received(*described(A, sku="new"), headers=newer, timestamp=20),
        driven.received(*described(A, sku="old"), headers=older, timestamp=10),
    ]
    driven.stage.run(batch)
    assert driven.stage.state.metadata.of("a.png") == {"sku": "new"}


def test_metadata_that_does_not_fit_into_a_record_is_left_out_from_the_end(driven):
    copies = [image(f"{number:04}.png", "same") for number in range(1200)]
    note = "x" * (MAX_METADATA_BYTES - 4)
    driven.run(
        *(described(one, note=note) for one in copies),
        *(reported(one, copies[0], relation="identical") for one in copies[1:]),
    )
    group = driven.group("0000.png")
    with_some = [bool(one.metadata) for one in group.members]
    assert len(group.members) == len(copies)
    assert 500 < sum(with_some) < 520
    assert with_some == sorted(with_some, reverse=True)
    assert len(codec().encode("groups", group)) < int(GROUPS.config["max.message.bytes"])


def _any_message(rng: random.Random, files: Mapping[tuple[int, str], bytes]) -> tuple[Topic, str, Any]:
    paths = rng.sample(range(6), 2)
    versions = [files[number, rng.choice("112")] for number in paths]
    one, two = (ImageContent(f"{n}.png", content_of(data)) for n, data in zip(paths, versions, strict=True))
    match rng.choice("pppprrrrgdu"):
        case "p":
            return described(one, **rng.choice([{}, {"sku": rng.choice("12")}]))
        case "r":
            return reported(one, two, relation=rng.choice(("same", "crop", "identical")))
        case "g":
            return gone(one.relative_path)
        case "d":
            return decided(rng.choice(list(Choice)), one, two)
        case _:
            return DECISIONS, decision(Choice.LATER, one, two).id, None
