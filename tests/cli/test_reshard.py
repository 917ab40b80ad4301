"""`imagetools reshard` beside searches that run: it waits, switches, cleans up, and can be interrupted or undone."""

import signal
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from cli.status import further_shards
from imagetools.errors import ConfigError
from streams.config import Config, KafkaConfig
from streams.embeddings_log import check_shards
from streams.kafka.admin import GroupOffsets, shard_groups
from streams.kafka.resharding import prepare, reshard, write_mark
from streams.search_consumer import SearchStage
from streams.sharding.marks import Mark, Role
from streams.sharding.shards import Shard
from streams.topics import CANDIDATES, EMBEDDINGS
from tests.streams.test_search_stage import embedding, has_candidates, vectors
from tests.support.bridging import eventually
from tests.support.processes import Running, start
from tests.support.streaming import Reader, running, send

ROWS = vectors(40)


def announce(kafka: KafkaConfig, numbers: Sequence[int]) -> None:
    send(kafka, EMBEDDINGS, [(f"{n}", replace(embedding(f"{n}", ROWS[n], n), request_id=1 + n)) for n in numbers])


@contextmanager
def searches(kafka: KafkaConfig, count: int, folder: Path) -> Iterator[None]:
    """A search for each of `count` shards."""
    with ExitStack() as stack:
        for member in replace(kafka, shard=Shard(0, count)).shards:
            check_shards(member)
            config = Config(kafka=member, index_dir=folder, nb_neighbors=3, nb_plain=0)
            stack.enter_context(running(SearchStage(config), kafka=member))
        yield


def command(kafka: KafkaConfig, log: Path, count: int) -> Running:
    settings = {"KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap, "TOPIC_PREFIX": kafka.prefix}
    return start("reshard", str(count), log=log, environ=settings)


def test_it_can_be_interrupted_undone_and_repeated_and_then_switches(kafka, tmp_path):
    with pytest.raises(ConfigError, match="`imagetools reshard 3` moves it, also while they run"):
        check_shards(replace(kafka, shard=Shard(1, 3)))
    reshard(kafka, 2)
    reader = Reader(kafka, CANDIDATES)
    with ExitStack() as old:
        old.enter_context(searches(kafka, 2, tmp_path))
        announce(kafka, range(10))
        reader.until(has_candidates(2 * 10))

        waits = command(kafka, tmp_path / "waits", 3)
        waits.said("SHARD=0/2 to SHARD=1/2 answer. SHARD=0/3 to SHARD=2/3 may follow the log now")
        waits.said("search 1/3: no process with SHARD=1/3 runs yet")
        waits.process.send_signal(signal.SIGINT)
        assert "Nothing is switched: SHARD=0/2 to SHARD=1/2 go on answering" in waits.ends(130)
        assert shard_groups(kafka).answering == 2
        assert [line for _, line in further_shards(kafka)] == [
            f"search {n}/3 follows the log beside those that answer" for n in range(3)
        ]

        undone = command(kafka, tmp_path / "undone", 2).ends(0)
        assert undone == "Done: SHARD=0/2 to SHARD=1/2 answer, and no others are left.\n"
        assert shard_groups(kafka).counts == [2]

        again = command(kafka, tmp_path / "again", 3)
        again.said("may follow the log now")
        with searches(kafka, 3, tmp_path):
            announce(kafka, range(10, 20))
            again.said("Switched: from offset")
            announce(kafka, range(20, 40))
            again.said("not needed any more: search 0/2, 1/2; `imagetools up` stops its own")
            reader.until(has_candidates(2 * 20 + 3 * 20))
            old.close()
            text = again.ends(0)
            assert text.splitlines()[-1] == "Done: SHARD=0/3 to SHARD=2/3 answer, and no others are left."
            assert shard_groups(kafka).counts == [3]
            assert "go on" not in text
            assert command(kafka, tmp_path / "more", 3).ends(0).startswith("Done: SHARD=0/3")
    answers = Counter((one.request_id, one.shard.shards) for one in reader.settled().seen["candidates"])
    assert answers.pop((0, 2)) == 2 * CANDIDATES.partitions
    numbers = dict(answers.keys())
    assert sorted(numbers) == list(range(1, 41)), "each image is answered for by one number of shards"
    assert all(answers[number, count] == count for number, count in answers)
    assert (numbers[1], numbers[40]) == (2, 3)
    with pytest.raises(ConfigError, match="followed by 3 shards: `imagetools reshard 2` moves it"):
        check_shards(replace(kafka, shard=Shard(0, 2)))
    reader.close()


def test_a_search_of_a_version_without_marks_is_named_and_nothing_is_switched(kafka, tmp_path):
    with searches(kafka, 1, tmp_path):
        announce(kafka, range(3))
        Reader(kafka, CANDIDATES).until(has_candidates(3)).close()
        asks = command(kafka, tmp_path / "asks", 2)
        asks.said("may follow the log now")
    # what an earlier version commits behind the mark
    end = eventually(lambda: max(group.offset for group in shard_groups(kafka))) + 100
    asks.process.kill()
    asks.process.wait()
    group = GroupOffsets(kafka, "search")
    group.set({0: end})
    group.close()
    two = replace(kafka, shard=Shard(0, 2))
    with running(SearchStage(Config(kafka=two, index_dir=tmp_path)), kafka=two):
        eventually(lambda: any(one.shard == two.shard and one.role is Role.FOLLOWS for one in shard_groups(kafka)))
        text = command(kafka, tmp_path / "refused", 2).ends(2)
    assert "search 0/1 runs an earlier version" in text
    assert shard_groups(kafka).of(2)[0].role is Role.FOLLOWS


def test_a_new_shard_begins_where_an_old_one_has_committed_and_one_that_is_there_is_left_alone(kafka):
    reshard(kafka, 2)
    group = GroupOffsets(replace(kafka, shard=Shard(1, 2)), "search")
    group.set({0: 7}, Mark(2).note)
    group.close()
    assert prepare(kafka, 3) == 2
    group = GroupOffsets(replace(kafka, shard=Shard(1, 2)), "search")
    group.set({0: 9}, Mark(2).note)
    group.close()
    prepare(kafka, 3)
    assert [(one.offset, one.mark) for one in shard_groups(kafka).of(3)] == [(7, Mark(2, 3))] * 3
    assert write_mark(kafka, Mark(2, 3)) < write_mark(kafka, Mark(3, 2))
