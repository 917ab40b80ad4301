"""A setting that does not fit the log ends a stage at its start, and drops no image."""

import hashlib
from dataclasses import replace

import numpy as np
import pytest

from imagetools.errors import ConfigError
from schemas.records import Embedding
from streams import encoder_consumer, search_consumer
from streams.config import Config
from streams.search_consumer import SearchStage
from streams.topics import DEAD_LETTERS, EMBEDDINGS
from tests.support.bridging import eventually
from tests.support.streaming import Reader, running, send


def embedding(path: str, numbers: int) -> tuple[str, Embedding]:
    vector = np.random.default_rng(len(path)).standard_normal(numbers).astype(np.float32)
    return path, Embedding(
        1, path, vector / np.linalg.norm(vector), "m:1:160", hashlib.sha256(path.encode()).digest(), alert=True
    )


def test_another_dimension_than_the_logs_is_refused_at_the_start_of_search(kafka, tmp_path):
    send(kafka, EMBEDDINGS, [embedding("a.png", 8)])
    config = Config(kafka, index_dir=tmp_path, dimension=7)
    with pytest.raises(ConfigError, match=r"DIMENSION is 7, and \S+embeddings holds fingerprints of 8 numbers"):
        search_consumer.make(config)
    search_consumer.make(replace(config, dimension=8)).close()


def test_a_log_that_begins_with_another_dimension_ends_search_before_an_image_is_dropped(kafka, tmp_path):
    reader = Reader(kafka, DEAD_LETTERS)
    with pytest.raises(ConfigError, match="DIMENSION is 7"):
        _search(Config(kafka, index_dir=tmp_path, dimension=7), [embedding(f"{n}.png", 8) for n in range(200)])
    assert not reader.settled().seen["dead-letters"]
    reader.close()


def _search(config: Config, records: list[tuple[str, Embedding]]) -> None:
    """Until search ends by itself."""
    with running(search_consumer.make(config), kafka=config.kafka) as (runner,):
        send(config.kafka, EMBEDDINGS, records)
        eventually(lambda: not runner._running)


def test_one_fingerprint_of_another_dimension_among_good_ones_is_a_dead_letter(kafka, tmp_path):
    reader = Reader(kafka, DEAD_LETTERS)
    with running(SearchStage(Config(kafka, index_dir=tmp_path, dimension=8)), kafka=kafka):
        send(kafka, EMBEDDINGS, [embedding("a.png", 8), embedding("bc.png", 7), embedding("def.png", 8)])
        reader.until(lambda r: r.seen["dead-letters"])
    assert len(reader.settled().seen["dead-letters"]) == 1
    reader.close()


def test_another_dimension_than_the_models_is_refused_by_the_encoder(kafka):
    with pytest.raises(ConfigError, match=r"DIMENSION is 7, and MODELS_NAME gives resnet18.th.* 512 numbers"):
        encoder_consumer.make(Config(kafka, dimension=7))


@pytest.mark.parametrize("stage", [encoder_consumer, search_consumer])
def test_a_second_log_that_is_not_there_is_refused_in_one_line(kafka, tmp_path, stage):
    config = Config(replace(kafka, embeddings="embeddings.9"), index_dir=tmp_path)
    with pytest.raises(ConfigError, match=r"EMBEDDINGS_TOPIC is embeddings.9: no topic \S+embeddings.9 on .*reencode"):
        stage.make(config)
