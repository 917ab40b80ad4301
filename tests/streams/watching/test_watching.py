"""Metrics and probes of the stages, over HTTP, while they work on a real Kafka."""

import socket
import struct
import sys
import threading
import time
import uuid
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from functools import partial

import pytest

from imagetools.errors import ConfigError
from schemas.records import ImageNew
from streams import encoder_consumer, grouping_consumer, matcher_consumer, search_consumer
from streams.config import Config, KafkaConfig
from streams.encoder_consumer import EncoderStage
from streams.kafka.admin import create_topics, delete_topics
from streams.topics import ANNOUNCED_AT, IMAGES_NEW, VERDICTS
from streams.watching.health import StageHealth
from streams.watching.metrics import StageMetrics
from streams.watching.server import serving
from tests.support.bridging import eventually
from tests.support.monitoring import expressions, metrics_in, metrics_of_the_bridge
from tests.support.streaming import Reader, send, write_groups
from tests.support.watching import Watched, watched

IMAGES = 6
ANNOUNCED_BEFORE_S = 100


@pytest.fixture(scope="module")
def stages(bootstrap: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Watched]]:
    """All four, with two groups of three images announced and a file that is none; every verdict is there."""
    kafka = KafkaConfig(bootstrap, prefix=f"test-{uuid.uuid4().hex[:12]}.", member="test")
    create_topics(kafka)
    folder = tmp_path_factory.mktemp("watching")
    images = folder / "images"
    paths = write_groups(images, IMAGES // 3)
    (images / "note.txt").write_text("no image")
    config = Config(kafka=kafka, images_dir=images, index_dir=folder / "index")
    makers = (encoder_consumer.make, search_consumer.make, matcher_consumer.make, grouping_consumer.make)
    # as if they had waited for a while; a producer's own header of that name is no announcement's time
    then = int(1000 * (time.time() - ANNOUNCED_BEFORE_S))
    records = [(path, ImageNew(number, path)) for number, path in enumerate([*paths, "note.txt"])]
    send(kafka, IMAGES_NEW, records, timestamp=then, headers=[(ANNOUNCED_AT, b"1")])
    with ExitStack() as stack:
        made = [make(config) for make in makers]
        found = {stage.name: stack.enter_context(watched(stage, kafka)) for stage in made}
        reader = Reader(kafka, VERDICTS).until(lambda seen: len(seen.seen["verdicts"]) == IMAGES + 1)
        reader.close()
        yield found
    delete_topics(kafka)


def test_each_stage_counts_its_work_and_says_that_it_is_ready(stages):
    encoder, search, matcher, grouping = stages.values()
    for stage in stages.values():
        eventually(stage.is_ready)
        assert stage.probe("/healthz") == (200, "alive")
        assert stage.ask("/")[0] == 404

    eventually(lambda: matcher.metrics().total("imagetools_records_in_total") == IMAGES)
    seen = encoder.metrics()
    assert seen.total("imagetools_records_in_total", stage="encoder") == IMAGES + 1
    assert seen.total("imagetools_records_out_total", stage="encoder", topic="embeddings") == IMAGES
    assert seen.total("imagetools_dead_letters_written_total", type="UnsupportedImage") == 1
    assert seen.total("imagetools_verdicts_total", outcome="dead_letter") == 1
    assert seen.total("imagetools_partitions") == IMAGES_NEW.partitions
    assert seen.total("imagetools_rebalances_total") >= 1
    assert seen.total("imagetools_model") == search.metrics().total("imagetools_model") == 1
    batches = seen.total("imagetools_batch_records_count")
    assert batches == seen.total("imagetools_transactions_total", result="committed")
    assert seen.total("imagetools_batch_records_sum") == IMAGES + 1
    for step in ("read", "run", "commit", "apply"):
        assert seen.total("imagetools_step_seconds_count", step=step) == batches
    assert seen.total("imagetools_step_seconds_sum", step="run") > 0

    seen = search.metrics()
    assert seen.total("imagetools_restore_seconds_count") == 1
    eventually(lambda: search.metrics().total("imagetools_index_images") == IMAGES)
    assert 0 < search.metrics().total("imagetools_index_fingerprints") <= IMAGES

    seen = matcher.metrics()
    assert seen.total("imagetools_verdicts_total", outcome="duplicate") == 4
    assert seen.total("imagetools_verdicts_total", outcome="clear") == 2
    assert seen.total("imagetools_alerts_total") == 4
    assert seen.total("imagetools_alert_pairs_total") == 6
    eventually(lambda: matcher.metrics().total("imagetools_features_total") >= IMAGES)

    # three images of each group are two alerts: the first one has none before it
    eventually(lambda: grouping.metrics().total("imagetools_groups") == 2)
    assert grouping.metrics().total("imagetools_grouping_images") == IMAGES


def has_counted(stage: Watched, verdicts: int) -> bool:
    return stage.metrics().total("imagetools_announcement_to_verdict_seconds_count") == verdicts


def test_the_time_from_announcement_to_verdict_travels_through_all_stages(stages):
    for stage, verdicts in (("encoder", 1), ("matcher", IMAGES)):
        eventually(partial(has_counted, stages[stage], verdicts))
        seen = stages[stage].metrics()
        mean = seen.total("imagetools_announcement_to_verdict_seconds_sum") / verdicts
        assert ANNOUNCED_BEFORE_S < mean < ANNOUNCED_BEFORE_S + 100


def histograms_as_one(names: Iterable[str]) -> set[str]:
    return {name.removesuffix("_bucket").removesuffix("_sum").removesuffix("_count") for name in names}


def test_the_dashboard_and_the_alerts_ask_for_metrics_that_there_are(stages):
    known = {"up", *metrics_of_the_bridge()}
    if sys.platform != "linux":
        # the client library reads them from /proc
        known |= {"process_resident_memory_bytes", "process_cpu_seconds_total"}
    for stage in stages.values():
        known |= stage.metrics().names
    asked = {name: where for where, expression in expressions() for name in metrics_in(expression)}
    assert {name: where for name, where in asked.items() if name not in known} == {}
    hidden = histograms_as_one(known) - histograms_as_one(asked) - metrics_of_the_bridge()
    assert {name for name in hidden if name.startswith("imagetools_")} == {"imagetools_index_offset"}


def test_a_stage_whose_folder_is_away_is_alive_and_not_ready_and_shows_its_lag(kafka, tmp_path):
    images = tmp_path / "images"
    paths = write_groups(images, 1)
    away = images.rename(tmp_path / "away")
    send(kafka, IMAGES_NEW, [(path, ImageNew(number, path)) for number, path in enumerate(paths)])
    with watched(encoder_consumer.make(Config(kafka=kafka, images_dir=images)), kafka) as stage:
        eventually(lambda: stage.metrics().total("imagetools_waiting") == 1)
        status, words = stage.probe("/readyz")
        assert status == 503
        assert words.startswith("waiting: ")
        assert str(images) in words
        assert stage.probe("/healthz") == (200, "alive")
        eventually(lambda: stage.metrics().total("imagetools_partition_lag", topic="images.new") == 3)
        assert stage.metrics().total("imagetools_records_in_total") == 0
        away.rename(images)
        eventually(stage.is_ready)
        eventually(lambda: stage.metrics().total("imagetools_partition_lag") == 0)
        assert stage.metrics().total("imagetools_records_in_total") == 3


def test_of_two_searches_one_works_and_the_other_says_that_it_stands_by(kafka, tmp_path):
    config = Config(kafka=kafka, index_dir=tmp_path / "index")
    with (
        watched(search_consumer.make(config), kafka) as one,
        watched(search_consumer.make(config), replace(kafka, member="other")) as two,
    ):
        answers = [(200, "ready"), (200, "standing by: other processes own all partitions")]
        eventually(lambda: sorted([one.probe("/readyz"), two.probe("/readyz")]) == answers)
        owned = [stage.metrics().total("imagetools_partitions") for stage in (one, two)]
        assert sorted(owned) == [0, 1]


def test_a_port_in_use_is_a_config_error_that_names_the_setting():
    metrics = StageMetrics(EncoderStage, StageHealth(300))
    with serving(metrics, "127.0.0.1", 0) as port:
        with (
            pytest.raises(ConfigError, match="METRICS_PORT and METRICS_HOST name others"),
            serving(metrics, "127.0.0.1", port),
        ):
            pass
        assert Watched(port).probe("/readyz") == (503, "starting")


def test_a_client_that_hangs_up_leaves_no_trace_in_the_log(capfd):
    metrics = StageMetrics(EncoderStage, StageHealth(60.0), prefix="")
    with serving(metrics, "127.0.0.1", 0) as port:
        before = threading.active_count()
        for begun in (b"", b"GET /met"):
            client = socket.create_connection(("127.0.0.1", port))
            client.sendall(begun)
            # the connection is reset, not closed in good order
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            client.close()
        assert Watched(port).probe("/healthz")[1] == "alive"
        eventually(lambda: threading.active_count() == before)
    assert capfd.readouterr() == ("", "")
