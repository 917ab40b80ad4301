"""Shards of the search stage, without Kafka: they answer as one index does, and each image is concluded once."""

import random
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import numpy as np
import pytest

from imagetools.errors import MessageError, MissingImage
from imagetools.image_root import ImageRoot
from imagetools.local_codes import pack_codes
from imagetools.matching.config import MatcherConfig
from schemas.neighbor_records import Neighbor, ShardAnswer, ShardHit, ShardImage
from schemas.records import Candidates, Embedding
from streams.config import Config, KafkaConfig
from streams.matcher_consumer import MatcherStage
from streams.search_consumer import SearchStage
from streams.sharding.join import LATE_MS, PartitionJoin, Whole
from streams.sharding.shards import Shard, parse_shard, shard_of
from streams.stage import Received
from tests.imagetools.index.local_pictures import codes_of, view_of
from tests.streams.test_search_stage import embedding, vectors

PICTURES = vectors(12, seed=3)
Sent = tuple[str, Candidates]
T = TypeVar("T")
CLEAR = 0.5
"""Neighbors below this score are anybody's: no two pictures are as near."""


def announcements(seed: int, count: int) -> list[tuple[str, Embedding | None]]:
    """Images of 12 pictures, some changed a little; announced again, with other bytes, removed and loaded silently."""
    rng = random.Random(seed)
    noise = vectors(count, seed=seed)
    made: list[tuple[str, Embedding | None]] = []
    for number in range(count):
        path = f"{rng.randrange(40)}.jpg"
        picture = rng.randrange(len(PICTURES))
        if rng.random() < 0.08:
            made.append((path, None))
            continue
        copy = rng.random() < 0.4
        vector = PICTURES[picture] if copy else PICTURES[picture] + 0.3 * noise[number]
        digest = picture if copy else 1000 + number
        record = embedding(path, (vector / np.linalg.norm(vector)).astype(np.float32), digest)
        made.append((path, replace(record, request_id=number, alert=rng.random() < 0.9)))
        if rng.random() < 0.1:
            made.append((path, made[-1][1]))
    return made


def run(folder: Path, shard: Shard, log: Sequence[tuple[str, Embedding | None]]) -> list[tuple[str, Candidates]]:
    """What one search sends for a log, in order."""
    kafka = KafkaConfig(shard=shard)
    stage = SearchStage(Config(kafka=kafka, index_dir=folder, nb_neighbors=3, nb_plain=0, nb_local=4))
    sent = []
    for start in range(0, len(log), 16):
        batch = [
            Received(path, record, 0, start + at, 1000 + start + at)
            for at, (path, record) in enumerate(log[start : start + 16])
        ]
        for outcome in stage.run(batch):
            assert not isinstance(outcome, Exception)
            sent += [(output.path, output.record) for output in outcome]
        stage.committed(start + len(batch))
    stage.close()
    return sent  # type: ignore[return-value]


def interleaved(rng: random.Random, sent: Sequence[Sequence[T]]) -> Iterator[T]:
    """The messages of all shards in one order, each shard's own kept; for a while one of them stands still."""
    waiting = [list(reversed(one)) for one in sent]
    while any(waiting):
        still = rng.randrange(len(sent))
        for _ in range(rng.randrange(1, 40)):
            ready = [one for number, one in enumerate(waiting) if one and number != still]
            if ready:
                yield rng.choice(ready).pop()
        if not any(one for number, one in enumerate(waiting) if number != still):
            yield from reversed(waiting[still])
            waiting[still] = []


class Matcher:
    """What a matcher does with one partition: batches, commits, and deaths in the middle of them."""

    def __init__(self, messages: Sequence[Received[Candidates]]) -> None:
        self.messages = messages
        self.concluded: list[Whole] = []
        self.offset, self.note = 0, ""

    def live(self, rng: random.Random) -> None:
        """Restore what was held, and commit a few batches; of the last one nothing is committed."""
        join = PartitionJoin(self.note)
        if join.first_offset is not None:
            for received in self.messages[join.first_offset : self.offset]:
                join.take_again(received)
        for _ in range(rng.randrange(1, 6)):
            batch = self.messages[self.offset : self.offset + rng.randrange(1, 12)]
            wholes = [whole for received in batch for whole in join.take(received)]
            if rng.random() < 0.3:
                return
            self.concluded += wholes
            self.offset, self.note = self.offset + len(batch), join.note()


def concluded(log: Sequence[tuple[str, Candidates]], seed: int) -> list[Candidates]:
    """What a matcher concludes from these messages, in two partitions, while it dies again and again."""
    rng = random.Random(seed)
    found: list[Candidates] = []
    for partition in range(2):
        own = [one for one in log if shard_of(one[0], 2) == partition]
        matcher = Matcher([Received(path, record, partition, at, at) for at, (path, record) in enumerate(own)])
        while matcher.offset < len(own):
            matcher.live(rng)
        assert not any(whole.passed_over for whole in matcher.concluded)
        found += [whole.record for whole in matcher.concluded]
    return found


def clear(found: Candidates) -> dict[str, tuple[str, bool, bytes]]:
    return {n.relative_path: (n.reason.value, n.identical, n.content) for n in found.neighbors if n.score > CLEAR}


@pytest.mark.parametrize(("seed", "count"), [(1, 2), (2, 3), (3, 4), (4, 7)])
def test_shards_answer_as_one_index_and_each_image_is_concluded_once(tmp_path, seed, count):
    log = announcements(seed, 220)
    whole = run(tmp_path / "whole", Shard(), log)
    parts = [run(tmp_path / str(index), Shard(index, count), log) for index in range(count)]
    found = concluded(list(interleaved(random.Random(seed), parts)), seed)
    expected = [record for _, record in whole]
    assert sum(len(clear(one)) for one in expected) > 150
    assert Counter(one.request_id for one in found) == Counter(one.request_id for one in expected)
    ours = sorted(found, key=lambda one: (one.request_id, len(one.neighbors)))
    theirs = sorted(expected, key=lambda one: (one.request_id, len(one.neighbors)))
    assert [(one.candidate, clear(one)) for one in ours] == [(one.candidate, clear(one)) for one in theirs]
    assert all(one.shard is None for one in found)
    for one in found:
        nodes = {n.relative_path for n in one.neighbors}
        assert len(nodes) == len(one.neighbors)


def test_of_many_copies_in_all_shards_the_earliest_are_neighbors_and_hide_no_other(tmp_path):
    copies = [(f"copy {number}", embedding(f"copy {number}", PICTURES[0], 7)) for number in range(40)]
    near = [
        (f"near {number}", embedding(f"near {number}", PICTURES[0] + 0.2 * PICTURES[number + 1], 100 + number))
        for number in range(4)
    ]
    log = [*copies, *near, ("last", embedding("last", PICTURES[0], 7))]
    parts = [run(tmp_path / str(index), Shard(index, 4), log) for index in range(4)]
    found = concluded([one for shard in parts for one in shard], 1)
    (last,) = (one for one in found if one.candidate == "last")
    paths = [n.relative_path for n in last.neighbors]
    assert paths[:5] == [f"copy {number}" for number in range(5)]
    assert len(paths) == 5 + 2
    assert all(path.startswith("near") for path in paths[5:])
    (alone,) = (one for _, one in run(tmp_path / "whole", Shard(), log) if one.candidate == "last")
    assert [n.relative_path for n in alone.neighbors][:5] == paths[:5]


def test_an_image_that_only_its_local_codes_find_is_not_lost_among_the_fingerprints_of_other_shards(tmp_path):
    """In its own shard it is near by fingerprint, too, but not among those of all shards."""
    far = vectors(60, seed=8)
    others = [(f"{n}.jpg", embedding(f"{n}.jpg", far[n], n)) for n in range(50)]
    hidden = replace(embedding("hidden", far[50], 50), codes=pack_codes(codes_of(3)))
    # a little like the hidden one, so that some of the others are nearer
    across = far[51] - (far[51] @ far[50]) * far[50]
    vector = 0.25 * far[50] + 0.97 * across / np.linalg.norm(across)
    asks = replace(embedding("asks", vector, 51), codes=pack_codes(view_of(codes_of(3), 3)))
    parts = [run(tmp_path / str(n), Shard(n, 4), [*others, ("hidden", hidden), ("asks", asks)]) for n in range(4)]
    answers = [record.shard for part in parts for path, record in part if path == "asks"]
    assert any(hit.neighbor.relative_path == "hidden" for one in answers if one for hit in one.near)
    found = concluded([one for part in parts for one in part], 1)
    (last,) = (one for one in found if one.candidate == "asks")
    assert ("hidden", "local") in [(n.relative_path, n.reason.value) for n in last.neighbors]


def test_a_record_that_no_shard_can_take_is_set_aside_once_and_one_by_its_holder_alone_waits_for_nobody(tmp_path):
    log = [(f"{n}.jpg", embedding(f"{n}.jpg", vectors(1, seed=n)[0], n)) for n in range(12)]
    log[6] = ("6.jpg", embedding("6.jpg", vectors(1, seed=6)[0], 6, model="another:2:160"))
    dead = 0
    for index in range(3):
        stage = SearchStage(Config(kafka=KafkaConfig(shard=Shard(index, 3)), index_dir=tmp_path / str(index)))
        outcomes = stage.run([Received(path, record, 0, at, at) for at, (path, record) in enumerate(log)])
        dead += isinstance(outcomes[6], Exception)
        assert isinstance(outcomes[6], Exception) or outcomes[6] == ()
        stage.close()
    assert dead == 1


def answer(sequence: int, shard: int, *, count: int = 2, owner: int = 0, at: int = 0) -> Received[Candidates]:
    image = ShardImage.PLACED if shard == owner else ShardImage.ELSEWHERE
    record = Candidates(sequence, f"{sequence}", shard=ShardAnswer(shard, count, "log", sequence, image))
    return Received(f"{sequence}", record, 0, at, at, (("producer", str(sequence).encode()),))


def test_an_image_that_a_shard_passed_over_gets_the_answers_of_the_others_and_its_own_headers():
    join = PartitionJoin()
    assert join.take(answer(5, 0)) == []
    (whole,) = join.take(answer(9, 1, at=1))
    assert whole.record.candidate == "5"
    assert "1 of 2" in whole.passed_over
    assert dict(whole.headers)["producer"] == b"5"


def test_an_image_that_its_own_shard_passed_over_is_no_image(caplog):
    join = PartitionJoin()
    join.take(answer(5, 1))
    assert join.take(answer(9, 0, at=1)) == []
    assert "passed it over" in caplog.text
    assert [whole.record.candidate for whole in join.take(answer(9, 1, at=2))] == ["9"]


def test_answers_that_are_repeated_are_left_out_also_after_a_restart(caplog):
    join = PartitionJoin()
    join.take(answer(5, 0))
    assert len(join.take(answer(5, 1, at=1))) == 1
    join = PartitionJoin(join.note())
    assert join.first_offset is None
    assert [join.take(answer(5, shard, at=2 + shard)) for shard in range(2)] == [[], []]
    assert "answers again" in caplog.text


def test_other_shards_and_another_log_are_counted_apart():
    join = PartitionJoin()
    join.take(answer(5, 0))
    three = [join.take(answer(2, shard, count=3, at=1 + shard)) for shard in range(3)]
    assert [len(some) for some in three] == [0, 0, 1]
    again = PartitionJoin(join.note())
    assert again.first_offset == 0
    again.take_again(answer(5, 0))
    assert len(again.take(answer(5, 1, at=9))) == 1


def test_a_shard_that_stays_behind_is_named():
    join = PartitionJoin()
    join.take(answer(5, 0, at=1000))
    assert join.late(1000 + LATE_MS) is None
    assert str(join.late(1001 + LATE_MS)) == "1/2"


def test_the_answer_of_a_shard_that_there_cannot_be_is_refused():
    with pytest.raises(MessageError, match="shard 2 of 2"):
        PartitionJoin().take(answer(1, 2))


def test_the_hash_is_the_same_on_every_machine_and_spreads_evenly():
    assert [shard_of(path, 4) for path in ("a.jpg", "b/ä.png", "")] == [1, 3, 0]
    counts = Counter(shard_of(f"{number}.jpg", 4) for number in range(8000))
    assert min(counts.values()) > 1850


@pytest.mark.parametrize("text", ["4", "4/4", "-1/4", "0/0", "a/b", "0/257", "1/2/3", "٠/٤"])
def test_a_shard_that_there_cannot_be_is_no_setting(text):
    with pytest.raises(ValueError, match="shards"):
        parse_shard(text)
    assert parse_shard("3/4") == Shard(3, 4)


def test_a_dead_letter_has_the_answers_of_all_shards_so_that_it_can_be_sent_back_alone(tmp_path):
    (tmp_path / "other.png").touch()
    stage = MatcherStage(MatcherConfig(), ImageRoot(tmp_path), workers=1)
    near = (ShardHit(Neighbor("gone.png", 0.9), 1, 1),)
    found = []
    for shard in range(2):
        part = answer(5, shard, at=shard)
        assert part.record is not None
        assert part.record.shard is not None
        filled = replace(part.record.shard, near=near if shard else (), nb_neighbors=5)
        found.append(replace(part, record=replace(part.record, shard=filled)))
    first, last = stage.run(found)
    assert first == []
    assert isinstance(last, MissingImage)
    letter = stage.letter(found[1])
    assert letter is not None
    assert letter.shard is None
    assert [one.relative_path for one in letter.neighbors] == ["gone.png"]
    stage.aborted()
    assert stage.stale
    assert stage.restore(0, 0) is None
    assert not stage.stale
    # sent back, it waits for nobody
    (again,) = stage.run([Received("5", letter, 0, 9, 9)])
    assert isinstance(again, MissingImage)
    stage.close()
