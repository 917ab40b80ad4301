"""A collection moves to another model on a real Kafka: nothing is announced again, and no alert is repeated or lost."""

from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from cli.reencode import obstacle, reencode
from imagetools.errors import ConfigError, ModelError
from imagetools.fingerprint.config import EncoderConfig
from imagetools.fingerprint.encoder import Encoder
from schemas.records import ImageNew
from streams import encoder_consumer, grouping_consumer, search_consumer
from streams.config import Config, KafkaConfig
from streams.kafka.admin import GroupOffsets, create_topics, delete_topics
from streams.kafka.errors import OffsetsLost
from streams.kafka.lag import StageLag
from streams.reencoding import second_log
from streams.topics import CANDIDATES, EMBEDDINGS, IMAGES_NEW
from tests.support.streaming import Reader, running, scene, send


@pytest.fixture
def other_model(tmp_path: Path) -> str:
    """The default's network with its projection turned: as good, and with nothing in common."""
    state = torch.load(Path(encoder_consumer.__file__).parents[1] / "imagetools" / "models" / "resnet18.th")
    turn, _ = torch.linalg.qr(torch.randn(512, 512, generator=torch.Generator().manual_seed(1)))
    for name in ("weight", "bias"):
        state[f"projection.{name}"] = (turn @ state[f"projection.{name}"].float()).half()
    torch.save(state, tmp_path / "other.th")
    return Encoder.load(EncoderConfig("other.th", tmp_path)).model


@pytest.fixture
def announce(kafka: KafkaConfig, tmp_path: Path) -> Callable[..., None]:
    (tmp_path / "images").mkdir()

    def announced(name: str, seed: int, *, quality: int = 95, alert: bool = True) -> None:
        scene(seed).save(tmp_path / "images" / name, quality=quality)
        send(kafka, IMAGES_NEW, [(name, ImageNew(seed, name, alert))])

    return announced


def test_a_collection_moves_to_another_model(kafka, tmp_path, other_model, announce):
    old = Config(kafka=kafka, images_dir=tmp_path / "images", index_dir=tmp_path / "index", models_dir=tmp_path)
    new = replace(old, models_name="other.th", kafka=replace(kafka, embeddings="embeddings.2"))
    moving = replace(old, models_name="other.th")
    candidates = Reader(kafka, CANDIDATES)

    def seen(count: int) -> list[str]:
        candidates.until(lambda r: len(r.seen["candidates"]) >= count).settled(0.5)
        assert len(candidates.seen["candidates"]) == count
        return [n.relative_path for n in candidates.seen["candidates"][-1].neighbors]

    stages = encoder_consumer.make(old), search_consumer.make(old), grouping_consumer.make(old)
    with running(*stages, kafka=kafka):
        for seed in range(6):
            announce(f"{seed}.jpg", seed, alert=seed % 2 == 0)
        announce("gone.jpg", 7)
        announce("unreadable.jpg", 8)
        seen(8)
        send(kafka, IMAGES_NEW, [("gone.jpg", None)])
        (tmp_path / "images" / "unreadable.jpg").unlink()
        # it has changed, and nobody has said so yet
        scene(50).save(tmp_path / "images" / "5.jpg", quality=95)
        reencode(moving, "embeddings.2", switch=False)

        second = Reader(new.kafka, EMBEDDINGS)
        second.until(lambda r: len(r.seen["embeddings"]) >= 7)
        assert {one.model for one in second.seen["embeddings"] if one} == {other_model}
        assert {one.relative_path for one in second.seen["embeddings"] if one} >= {f"{seed}.jpg" for seed in range(6)}
        assert not any(one.alert for one in second.seen["embeddings"] if one)
        second.close()

        announce("meanwhile.jpg", 2, quality=60)
        assert seen(9)[0] == "2.jpg", "the service goes on with the old model"
        with pytest.raises(ConfigError, match="the encoder still runs"):
            reencode(moving, "embeddings.2", switch=True)
        create_topics(new.kafka)
        with pytest.raises(OffsetsLost), running(search_consumer.make(new), kafka=new.kafka):
            candidates.settled(5)

    with running(search_consumer.make(old), grouping_consumer.make(old), kafka=kafka):
        reencode(moving, "embeddings.2", switch=True)
    second = Reader(new.kafka, EMBEDDINGS).settled(1)
    end = second.messages["embeddings"][-1].offset()
    second.close()
    create_topics(new.kafka)
    with closing(GroupOffsets(new.kafka, "grouping", EMBEDDINGS)) as offsets:
        assert offsets.read()[0] > end, "grouping has seen all of it in the first log"
    with pytest.raises(ModelError, match=r"resnet18.th:.* holds|embeddings.2 holds"):
        encoder_consumer.make(replace(new, models_name=old.models_name))
    with running(encoder_consumer.make(new), kafka=new.kafka), running(search_consumer.make(new), kafka=new.kafka):
        announce("later.jpg", 2, quality=50)
        assert set(seen(10)[:2]) == {"2.jpg", "meanwhile.jpg"}
        announce("5.jpg", 50)
        assert seen(11), "changed bytes are news, though the new model has seen them already"
    candidates.close()
    delete_topics(new.kafka)


def test_the_wrong_folder_is_told_and_a_switch_needs_a_search(kafka, tmp_path, other_model, announce):
    config = Config(kafka=kafka, images_dir=tmp_path / "images", index_dir=tmp_path / "index", models_dir=tmp_path)
    with running(encoder_consumer.make(config), kafka=kafka):
        for seed in range(4):
            announce(f"{seed}.jpg", seed)
        embeddings = Reader(kafka, EMBEDDINGS)
        embeddings.until(lambda r: len(r.seen["embeddings"]) == 4)
        embeddings.close()
    (tmp_path / "elsewhere").mkdir()
    scene(9).save(tmp_path / "elsewhere" / "other.jpg")
    wrong = replace(config, models_name="other.th", images_dir=tmp_path / "elsewhere", dead_letter_limit=3)
    with pytest.raises(ConfigError, match=r"3 images in a row cannot be read.*Is IMAGES_DIR right"):
        reencode(wrong, "embeddings.2", switch=False)
    with pytest.raises(ConfigError, match="no search follows"):
        reencode(replace(config, models_name="other.th"), "embeddings.3", switch=True)
    for target in ("embeddings.2", "embeddings.3"):
        delete_topics(replace(kafka, embeddings=target))


def test_names_and_models_that_cannot_be(kafka, tmp_path, other_model, announce):
    config = Config(kafka=kafka, images_dir=tmp_path / "images", index_dir=tmp_path / "index", models_dir=tmp_path)
    with pytest.raises(ConfigError, match="--to is 'duplicates'"):
        reencode(config, "duplicates", switch=False)
    with pytest.raises(ConfigError, match="--to is 'a/b'"):
        reencode(config, "a/b", switch=False)
    with running(encoder_consumer.make(config), kafka=kafka):
        announce("a.jpg", 1)
        embeddings = Reader(kafka, EMBEDDINGS)
        embeddings.until(lambda r: len(r.seen["embeddings"]) == 1)
        embeddings.close()
    with pytest.raises(ModelError, match="has already"):
        reencode(config, "embeddings.2", switch=False)
    with pytest.raises(ModelError, match="holds those of resnet18"):
        encoder_consumer.make(replace(config, models_name="other.th"))


def test_the_switch_waits_for_who_has_not_seen_all(kafka):
    def stage(name: str, *, lag: int, members: int) -> StageLag:
        return StageLag(name, "embeddings", lag, 0.0, members)

    idle, search = stage("encoder", lag=3, members=0), stage("search", lag=2, members=1)
    assert obstacle(kafka, idle, [search, stage("grouping", lag=5, members=1)]) == ""
    assert "no grouping follows" in obstacle(kafka, idle, [search, stage("grouping", lag=5, members=0)])
    assert obstacle(kafka, idle, [search, stage("grouping", lag=0, members=0)]) == ""
    assert "no search follows" in obstacle(kafka, idle, [stage("search", lag=0, members=0)])
    assert "the encoder still runs" in obstacle(kafka, stage("encoder", lag=0, members=1), [])


def test_the_second_log_is_kept_like_the_first():
    assert replace(second_log("embeddings.2"), name=EMBEDDINGS.name) == EMBEDDINGS
