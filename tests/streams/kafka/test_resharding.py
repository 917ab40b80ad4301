"""The log moves from one number of shards to another: each image is answered for by one of them."""

from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from cli.status import silent_shards
from imagetools.errors import ConfigError
from streams.config import Config, KafkaConfig
from streams.kafka.admin import GroupOffsets, create_topics, shard_groups
from streams.kafka.clients import admin_client
from streams.kafka.lag import LagSampler
from streams.kafka.resharding import reshard
from streams.search_consumer import SearchStage, make
from streams.sharding.shards import Shard
from streams.topics import CANDIDATES, EMBEDDINGS
from tests.streams.test_search_stage import embedding, has_candidates, vectors
from tests.support.bridging import eventually
from tests.support.streaming import Reader, running, send

ROWS = vectors(60)


def announce(kafka: KafkaConfig, numbers: Sequence[int]) -> None:
    send(kafka, EMBEDDINGS, [(f"{n}", replace(embedding(f"{n}", ROWS[n], n), request_id=n)) for n in numbers])


def config(kafka: KafkaConfig, folder: Path) -> Config:
    return Config(kafka=kafka, index_dir=folder, nb_neighbors=3, nb_plain=0)


def run_until(kafka: KafkaConfig, folder: Path, reader: Reader, count: int) -> None:
    """Run all shards until there are as many candidates, and until each has committed."""
    with ExitStack() as stack:
        for member in kafka.shards:
            stack.enter_context(running(SearchStage(config(member, folder)), kafka=member))
        reader.until(has_candidates(count)).settled(0.5)
    assert len(reader.seen["candidates"]) == count


def test_one_three_and_two_shards_answer_one_after_the_other(kafka, tmp_path):
    reader = Reader(kafka, CANDIDATES)
    announce(kafka, range(20))
    run_until(kafka, tmp_path, reader, 20)
    announce(kafka, range(20, 40))
    assert reshard(kafka, 3) == 20
    three = replace(kafka, shard=Shard(0, 3))
    assert {(group.shard.count, group.offset) for group in shard_groups(kafka)} == {(3, 20)}
    run_until(three, tmp_path, reader, 20 + 3 * 20)
    # the topics are there, and a search of another number would repeat every alert
    create_topics(kafka)
    assert shard_groups(kafka).counts == [3]
    with pytest.raises(ConfigError, match="reshard 1"):
        make(config(kafka, tmp_path))
    announce(kafka, range(40, 60))
    assert reshard(kafka, 2) == 40
    run_until(replace(kafka, shard=Shard(0, 2)), tmp_path, reader, 20 + 3 * 20 + 2 * 20)
    answers = Counter((one.request_id, one.shard.shards if one.shard else 1) for one in reader.seen["candidates"])
    assert answers == {(n, count): count for n in range(60) for count in [(1, 3, 2)[n // 20]]}
    last = [one for one in reader.seen["candidates"] if one.request_id == 59]
    assert {hit.neighbor.relative_path for one in last for hit in one.shard.near} >= nearest(59)
    reader.close()


def nearest(number: int) -> set[str]:
    return {f"{n}" for n in sorted(range(number), key=lambda n: -float(ROWS[n] @ ROWS[number]))[:3]}


def test_shards_that_run_or_stand_at_different_places_do_not_move(kafka, tmp_path):
    stage = SearchStage(config(kafka, tmp_path))
    with running(stage, kafka=kafka):
        announce(kafka, [0])
        reader = Reader(kafka, CANDIDATES).until(has_candidates(1))
        with pytest.raises(ConfigError, match="the search still runs \\(0/1\\)"):
            reshard(kafka, 2)
    assert reshard(kafka, 2) == 1
    group = GroupOffsets(replace(kafka, shard=Shard(1, 2)), "search")
    group.set({0: 0})
    group.close()
    with pytest.raises(ConfigError, match="0/2 at 1, 1/2 at 0"):
        reshard(kafka, 3)
    assert shard_groups(kafka).counts == [2]
    reader.close()


def test_the_lag_of_each_shard_is_sampled_and_the_slowest_is_that_of_the_search(kafka, tmp_path):
    reshard(kafka, 2)
    announce(kafka, range(10))
    first = replace(kafka, shard=Shard(0, 2))
    sampler = LagSampler(kafka, {"search": EMBEDDINGS})
    with running(SearchStage(config(first, tmp_path)), kafka=first):
        eventually(lambda: [one.lag for one in sampler.sample()[0].shards] == [0, 10])
        (search,) = sampler.sample()
    sampler.close()
    assert (search.stage, search.lag, search.members) == ("search", 10, 1)
    assert [(one.stage, one.members) for one in search.shards] == [("search 0/2", 1), ("search 1/2", 0)]
    ((_, line),) = silent_shards([search])
    assert line == "no search 1/2 runs: every image waits for it"


def test_a_log_that_was_lost_is_made_again(kafka):
    """Its groups outlive it on the broker for a while."""
    name = kafka.topic(EMBEDDINGS.name)
    admin = admin_client(kafka)
    admin.delete_topics([name])[name].result(30)
    assert list(shard_groups(kafka)) == []
    assert create_topics(kafka) == [name]
    assert [group.offset for group in shard_groups(kafka)] == [0]
