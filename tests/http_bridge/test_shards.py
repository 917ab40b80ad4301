"""Requests to a search in shards: the answer of all of them, or none."""

from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from schemas.records import ImageNew
from streams import encoder_consumer, matcher_consumer
from streams.config import Config, KafkaConfig
from streams.kafka.admin import shard_groups
from streams.kafka.resharding import prepare, reshard, write_mark
from streams.search_consumer import SearchStage
from streams.sharding.marks import Mark
from streams.sharding.shards import Shard, shard_of
from streams.topics import EMBEDDINGS, IMAGES_NEW
from tests.streams.test_search_stage import embedding, vectors
from tests.support.bridging import SEARCH, UPLOADS, answering, bridge, eventually, png
from tests.support.streaming import Reader, scene, send, write_groups

COUNT = 3


def of_shards(kafka: KafkaConfig) -> list[KafkaConfig]:
    """One for each shard, whose groups have offsets."""
    reshard(kafka, COUNT)
    return replace(kafka, shard=Shard(0, COUNT)).shards


def test_a_search_has_the_neighbors_of_all_shards_or_names_the_one_that_is_missing(
    kafka: KafkaConfig, tmp_path: Path
) -> None:
    rows = vectors(30)
    members = of_shards(kafka)
    send(kafka, EMBEDDINGS, [(f"{n}", embedding(f"{n}", rows[n], n)) for n in range(30)])
    stages = [SearchStage(Config(kafka=member, index_dir=tmp_path / "index")) for member in members]
    query = rows[0] + rows[1] + rows[2] + rows[3]
    nearest = sorted(range(30), key=lambda n: -float(rows[n] @ query))
    body = {"nb_neighbors": 5, "vec_features": query.tolist()}
    with ExitStack() as stack:
        for member, stage in list(zip(members, stages, strict=True))[:-1]:
            stack.enter_context(answering(member, stage))
        asked = stack.enter_context(bridge(kafka, tmp_path, BRIDGE_TIMEOUT_S="2")).wait_ready()

        def partly() -> bool:
            answer = asked.post(SEARCH, body)
            assert answer.status >= 500
            assert answer.json["response"] == {}
            return "no answer of shard 2/3" in str(answer.json["error_message"]) and answer.status == 503

        eventually(partly)
        stack.enter_context(answering(members[-1], stages[-1]))
        best = [f"{n}" for n in nearest[:5]]
        assert len({shard_of(path, COUNT) for path in best}) > 1

        def found() -> list[str]:
            answer = asked.post(SEARCH, body)
            return [one["relative_path"] for one in answer.json["response"].get("neighbors", ())]

        eventually(lambda: found() == best)
        wrong = asked.post(SEARCH, {"nb_neighbors": 5, "vec_features": [0.5] * 7})
        assert wrong.status == 422
        assert wrong.json["error_message"].startswith("vec_features: a fingerprint of 7")


def test_requests_are_answered_by_the_old_shards_or_the_new_ones_while_the_index_moves(
    kafka: KafkaConfig, tmp_path: Path
) -> None:
    rows = vectors(40)
    reshard(kafka, 2)
    two, three = (replace(kafka, shard=Shard(0, count)).shards for count in (2, 3))
    send(kafka, EMBEDDINGS, [(f"{n}", embedding(f"{n}", rows[n], n)) for n in range(40)])
    query = rows[0] + rows[1] + rows[2] + rows[3]
    best = [f"{n}" for n in sorted(range(40), key=lambda n: -float(rows[n] @ query))[:5]]
    assert all(len({shard_of(path, count) for path in best}) > 1 for count in (2, 3))
    body = {"nb_neighbors": 5, "vec_features": query.tolist()}

    def stage(member: KafkaConfig) -> SearchStage:
        return SearchStage(Config(kafka=member, index_dir=tmp_path / "index"))

    with ExitStack() as stack:
        asked = stack.enter_context(bridge(kafka, tmp_path, BRIDGE_TIMEOUT_S="5")).wait_ready()

        def found() -> list[str]:
            answer = asked.post(SEARCH, body)
            return [one["relative_path"] for one in answer.json["response"].get("neighbors", ())]

        with ExitStack() as old:
            for member in two:
                old.enter_context(answering(member, stage(member)))
            eventually(lambda: found() == best)
            prepare(kafka, 3)
            new = [stage(member) for member in three]
            for member, one in zip(three, new, strict=True):
                stack.enter_context(answering(member, one))
            probe = write_mark(kafka, Mark(2, 3))
            while not all(group.offset > probe for group in shard_groups(kafka)):
                assert found() == best
            assert not any(one.owns_requests() for one in new), "they have not answered yet"
            assert found() == best
            write_mark(kafka, Mark(3, 2))
            while not all(one.owns_requests() for one in new):
                assert found() == best, "no request falls between them"
            assert found() == best
        assert found() == best, "without the old ones"


def test_an_upload_is_compared_with_the_images_of_all_shards(kafka: KafkaConfig, tmp_path: Path) -> None:
    paths = write_groups(tmp_path / "images", 4)
    members = of_shards(kafka)
    config = Config(kafka=kafka, images_dir=tmp_path / "images", index_dir=tmp_path / "index")
    with ExitStack() as stack:
        for member in members:
            stack.enter_context(answering(member, SearchStage(replace(config, kafka=member))))
        stack.enter_context(answering(kafka, encoder_consumer.make(config), matcher_consumer.make(config)))
        send(kafka, IMAGES_NEW, [(path, ImageNew(number, path)) for number, path in enumerate(paths)])
        Reader(kafka, EMBEDDINGS).until(lambda reader: len(reader.seen["embeddings"]) == len(paths)).close()
        asked = stack.enter_context(bridge(kafka, tmp_path)).wait_ready()
        group = sorted(path for path in paths if path.startswith("1"))
        assert len({shard_of(path, COUNT) for path in group}) > 1

        def found() -> list[str]:
            answer = asked.post(UPLOADS, png(scene(1)))
            assert answer.status in (200, 503), answer.body
            return sorted(one["relative_path"] for one in answer.json["response"].get("duplicated", ()))

        eventually(lambda: found() == group)
