"""Another number of shards from a mark in the log on, without Kafka: each image is answered for by one number."""

import random
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest

from schemas.neighbor_records import ShardAnswer
from schemas.records import Candidates, Embedding
from streams.config import Config, KafkaConfig
from streams.search_consumer import SearchStage
from streams.sharding.join import PartitionJoin
from streams.sharding.marks import Mark, Role, ShardGroup, ShardGroups, Turn, is_key, mark_in, mark_noted, new_key
from streams.sharding.shards import Shard, shard_of
from streams.stage import Headers, Output, Received
from streams.topics import ANNOUNCED_IN
from tests.streams.sharding.test_shards import Matcher, announcements, clear, interleaved
from tests.streams.sharding.test_shards import run as run_alone
from tests.streams.test_search_stage import embedding, vectors

PARTITIONS = 3
Entry = tuple[str, Embedding | None, Headers]


def marked(log: Sequence[tuple[str, Embedding | None]], marks: dict[int, Mark]) -> list[Entry]:
    """The log with each mark before the image at its place."""
    made: list[Entry] = []
    for place, (path, record) in enumerate(log):
        if place in marks:
            made.append((new_key(), None, marks[place].headers))
        made.append((path, record, ()))
    return made


def run(folder: Path, shard: Shard, log: Sequence[Entry], rng: random.Random, start: int = 0) -> list[Output]:
    """What one search commits of a log from `start` on, where it dies now and then in the middle of a batch.

    It has followed the log up to there, and its group says that two shards answer.
    """
    outputs: list[Output] = []
    received = [Received(path, record, 0, at, 1000 + at, headers) for at, (path, record, headers) in enumerate(log)]
    offset, note = start, "" if shard.count == 2 else Mark(2, shard.count).note
    while offset < len(log):
        config = Config(
            kafka=KafkaConfig(shard=shard), index_dir=folder / str(shard.index), nb_neighbors=3, nb_plain=0, nb_local=4
        )
        stage = SearchStage(config)
        stage.restore(0, offset, note)
        change = stage.log_index.index.change()
        for one in received[:offset]:
            stage.log_index.follow(change, one)
        stage.log_index.apply(change)
        for _ in range(rng.randrange(2, 6)):
            batch = received[offset : offset + rng.randrange(1, 16)]
            outcomes = stage.run(batch)
            if rng.random() < 0.2:
                stage.aborted()
                continue
            for outcome in outcomes:
                assert not isinstance(outcome, Exception)
                outputs += outcome
            offset, note = offset + len(batch), stage.note(0)
            stage.committed(offset)
        stage.close()
    return outputs


def to_partitions(rng: random.Random, sent: Sequence[Sequence[Output]]) -> list[list[Received[Candidates]]]:
    """The messages of all shards in the partitions that they come to, those of each shard in order."""
    partitions: list[list[Received[Candidates]]] = [[] for _ in range(PARTITIONS)]
    for output in interleaved(rng, sent):
        assert isinstance(output.record, Candidates)
        where = range(PARTITIONS) if output.everywhere else [shard_of(output.path, PARTITIONS)]
        for number in where:
            at = len(partitions[number])
            partitions[number].append(Received(output.path, output.record, number, at, at))
    return partitions


@pytest.mark.parametrize("seed", range(4))
def test_two_shards_become_three_and_two_again_anywhere_in_the_log_and_answer_as_one_index(tmp_path, seed):
    rng = random.Random(seed)
    log = announcements(seed, 140)
    first, second = sorted(rng.sample(range(len(log)), 2))
    entries = marked(log, {first: Mark(3, 2), second: Mark(2, 3)})
    joined = [rng.randrange(first + 1) for _ in range(3)]
    sent = [run(tmp_path / "two", Shard(index, 2), entries, rng) for index in range(2)]
    sent += [run(tmp_path / "three", Shard(index, 3), entries, rng, joined[index]) for index in range(3)]
    found: list[Candidates] = []
    for messages in to_partitions(rng, sent):
        matcher = Matcher(messages)
        while matcher.offset < len(messages):
            matcher.live(rng)
        assert not any(whole.passed_over for whole in matcher.concluded)
        assert PartitionJoin(matcher.note).first_offset is None, "nothing waits"
        found += [whole.record for whole in matcher.concluded]
    expected = [record for _, record in run_alone(tmp_path / "whole", Shard(), log)]
    assert Counter(one.request_id for one in found) == Counter(one.request_id for one in expected)
    ours, theirs = (sorted(some, key=lambda one: (one.request_id, len(one.neighbors))) for some in (found, expected))
    assert [(one.candidate, clear(one)) for one in ours] == [(one.candidate, clear(one)) for one in theirs]
    alerting = [n for n, (_, record) in enumerate(log) if record is not None and record.alert]
    answers = Counter(
        (one.record.request_id, one.record.shard.shards)
        for some in sent
        for one in some
        if isinstance(one.record, Candidates) and one.record.shard is not None and not one.everywhere
    )
    for number in alerting:
        count = 3 if first <= number < second else 2
        record = log[number][1]
        assert record is not None
        assert answers[record.request_id, count] % count == 0
        assert answers[record.request_id, count] > 0


def test_an_image_that_an_old_shard_passed_over_does_not_wait_after_the_switch(caplog):
    """In a partition that gets no other image of theirs."""

    def answer(path: str, sequence: int, shard: int, at: int) -> Received[Candidates]:
        return Received(path, Candidates(1, path, shard=ShardAnswer(shard, 2, "log", sequence)), 0, at, at)

    join, key = PartitionJoin(), new_key()
    assert join.take(answer("a.png", 5, 0, 0)) == []
    assert join.take(answer(key, 9, 0, 1)) == []
    join = PartitionJoin(join.note())
    for at, (path, sequence) in enumerate([("a.png", 5), (key, 9)]):
        join.take_again(answer(path, sequence, 0, at))
    assert join.waiting == 2
    # its own shard has set it aside, with a verdict; the end is no image, and nobody has passed it over
    assert join.take(answer(key, 9, 1, 2)) == []
    assert join.waiting == 0
    assert caplog.text.count("passed it over") == 1
    assert PartitionJoin(join.note()).first_offset is None


def test_a_shard_follows_without_output_until_its_turn_and_says_where_it_ends(tmp_path):
    rows = vectors(8)
    log = marked([(f"{n}", embedding(f"{n}", rows[n], n)) for n in range(8)], {2: Mark(3, 2), 6: Mark(3)})
    outputs = {}
    for shard in (Shard(0, 2), Shard(1, 3), Shard()):
        stage = SearchStage(Config(kafka=KafkaConfig(shard=shard), index_dir=tmp_path / shard.name))
        stage.restore(0, 0, Mark(2, 3).note)
        assert stage.owns_requests() == (shard.count == 2)
        received = [Received(path, record, 0, at, at, headers) for at, (path, record, headers) in enumerate(log)]
        outcomes = [outcome for outcome in stage.run(received) if not isinstance(outcome, Exception)]
        outputs[shard.count] = [[(one.path, one.everywhere) for one in outcome] for outcome in outcomes]
        stage.aborted()
        assert stage.run(received[:1]) != [()] or shard.count != 2, "the marks of an aborted batch do not count"
        stage.run(received)
        stage.committed(len(log))
        assert len(stage.log_index.index) == sum(shard.holds(f"{n}") for n in range(8))
        assert mark_noted(stage.note(0), shard) == Mark(3)
        # those that have answered serve requests for as long as they are there
        assert stage.owns_requests() == (shard.count > 1)
        assert ("is not needed any more" in stage.concern) == (shard.count != 3)
        stage.close()
    key = log[2][0]
    own = [[(f"{n}", False)] for n in range(8)]
    assert outputs[2] == [own[0], own[1], [(key, True)], *[[]] * 7]
    assert outputs[3] == [[], [], [], *own[2:6], [], *own[6:]]
    assert outputs[1] == [[]] * 10


def test_what_a_producer_announces_is_no_mark():
    mark = Mark(3, 2)
    assert mark_in(Received(new_key(), None, 0, 1, 1, mark.headers)) == mark
    # the encoder passes a producer's headers on, with the partition of the announcement
    assert mark_in(Received(new_key(), None, 0, 1, 1, (*mark.headers, (ANNOUNCED_IN, b"0")))) is None
    assert mark_in(Received("a.png", None, 0, 1, 1, mark.headers)) is None
    assert mark_in(Received(new_key(), None, 0, 1, 1, ())) is None
    assert mark_in(Received(new_key(), None, 0, 1, 1, Mark(257).headers)) is None
    assert not is_key("shards.png")


def test_a_group_without_a_note_answers_as_it_did_before_there_were_marks():
    turn = Turn(Shard(0, 2))
    turn.restore("")
    assert (turn.role, turn.serves) == (Role.ANSWERS, True)
    turn.restore(Mark(3).note)
    assert (turn.role, turn.serves) == (Role.NOT_NEEDED, False)


def test_the_groups_say_who_answers_and_who_is_needed():
    two = [ShardGroup(Shard(n, 2), 10 + n) for n in range(2)]
    three = [ShardGroup(Shard(n, 3), 10, Mark(2, 3).note) for n in range(3)]
    assert ShardGroups().answering is None
    groups = ShardGroups((*two, *three))
    assert (groups.counts, groups.answering, groups.needed) == ([2, 3], 2, [2, 3])
    switched = ShardGroups((two[0], ShardGroup(Shard(1, 2), 21, Mark(3, 2).note), *three))
    assert (switched.answering, switched.needed) == (3, [2, 3])
    ended = ShardGroups(tuple(ShardGroup(Shard(n, count), 30, Mark(3).note) for count in (2, 3) for n in range(count)))
    assert (ended.answering, ended.needed) == (3, [3])
