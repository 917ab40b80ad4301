"""Settings from the environment: each variable, and what is said of a wrong one."""

import contextlib
import logging
from dataclasses import replace
from pathlib import Path

import pytest
from confluent_kafka import Consumer, Producer
from hypothesis import given
from hypothesis import strategies as st

from imagetools.errors import ConfigError
from streams.config import BridgeConfig, Config, KafkaConfig
from streams.librdkafka import EXACTLY_ONCE
from streams.sharding.shards import Shard
from streams.traces.config import TracesConfig


def read(**environ: str) -> Config:
    return Config.from_env(environ)


def test_an_empty_environment_gives_the_defaults():
    config = read()
    assert config == Config()
    assert config.kafka == KafkaConfig()
    assert config.kafka.bootstrap == "localhost:9092"
    assert config.images_dir == Path("/home/solver/images")
    assert config.index_dir == Path("/home/solver/location")
    assert config.models_dir == Path("/home/solver/models")
    assert config.models_name == "resnet18.th"
    assert (config.batch_size, config.dimension, config.distance_type) == (1024, None, "Cosine")
    assert (config.nb_workers, config.matcher.threshold) == (None, 0.75)


def test_usearch_is_refused_for_the_distance_that_it_does_not_know():
    with pytest.raises(ConfigError, match=r"INDEX_ENGINE is USearch.* set it to NGT"):
        read(DISTANCE_TYPE="L1", INDEX_ENGINE="USearch")
    assert read(DISTANCE_TYPE="L1").index_engine is None


VARIABLES = [
    ("IMAGES_DIR", "/data", lambda c: c.images_dir, Path("/data")),
    ("IMAGES_DIR", "s3://bucket/pre/", lambda c: c.images_dir, "s3://bucket/pre"),
    ("IMAGES_PRIVATE", "yes", lambda c: c.images_private, True),
    ("MODELS_DIR", "/models", lambda c: c.models_dir, Path("/models")),
    ("MODELS_NAME", "resnet50.th", lambda c: c.models_name, "resnet50.th"),
    ("ENCODER_ENGINE", "torch", lambda c: c.engine, "torch"),
    ("ENCODER_THREADS", "3", lambda c: c.encoder_threads, 3),
    ("INDEX_DIR", "/index", lambda c: c.index_dir, Path("/index")),
    ("BATCH_SIZE", "64", lambda c: c.batch_size, 64),
    ("DIMENSION", "2048", lambda c: c.dimension, 2048),
    ("DISTANCE_TYPE", "Normalized Cosine", lambda c: c.distance_type, "Normalized Cosine"),
    ("DISTANCE_TYPE", "L2", lambda c: c.distance_type, "L2"),
    ("INDEX_ENGINE", "NGT", lambda c: c.index_engine, "NGT"),
    ("NB_NEIGHBORS", "50", lambda c: c.nb_neighbors, 50),
    ("NB_LOCAL", "0", lambda c: c.nb_local, 0),
    ("NB_PLAIN", "0", lambda c: c.nb_plain, 0),
    ("NB_WORKERS", "3", lambda c: c.nb_workers, 3),
    ("FEATURES_DIR", "/features", lambda c: c.features_dir, Path("/features")),
    ("FEATURES_MB", "512", lambda c: c.features_mb, 512),
    ("KEEP_ORDER", "earliest, whole", lambda c: c.keep_order, ("earliest", "whole")),
    ("DEAD_LETTER_LIMIT", "0", lambda c: c.dead_letter_limit, 0),
    ("METRICS_PORT", "9200", lambda c: c.metrics_port, 9200),
    ("METRICS_HOST", "0.0.0.0", lambda c: c.metrics_host, "0.0.0.0"),
    ("LOG_FORMAT", "json", lambda c: c.log_format, "json"),
    ("OTEL_TRACES_EXPORTER", "otlp", lambda c: c.traces.exporter, "otlp"),
    ("OTEL_SDK_DISABLED", "true", lambda c: c.traces.disabled, True),
    ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://a:4318", lambda c: c.traces.endpoint, "http://a:4318"),
    ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc", lambda c: c.traces.protocol, "grpc"),
    ("THRESHOLD", "0.5", lambda c: c.matcher.threshold, 0.5),
    ("ALERT_RECOLOURED", "no", lambda c: c.matcher.alert_recoloured, False),
    ("ALERT_MOVED", "off", lambda c: c.matcher.alert_moved, False),
    ("WIDTH", "320", lambda c: c.matcher.width, 320),
    ("HEIGHT", "200", lambda c: c.matcher.height, 200),
    ("KAFKA_BOOTSTRAP_SERVERS", "a:1,b:2", lambda c: c.kafka.bootstrap, "a:1,b:2"),
    ("KAFKA_GROUP_PROTOCOL", "consumer", lambda c: c.kafka.group_protocol, "consumer"),
    ("TOPIC_PREFIX", "team-a.", lambda c: c.kafka.prefix, "team-a."),
    ("SCHEMA_REGISTRY_URL", "http://r:8081", lambda c: c.kafka.registry, "http://r:8081"),
    ("SHARD", "3/4", lambda c: c.kafka.shard, Shard(3, 4)),
    ("MEMBER_NAME", "encoder-0", lambda c: c.kafka.member, "encoder-0"),
]


@pytest.mark.parametrize(("name", "text", "get", "expected"), VARIABLES, ids=[f"{v[0]}={v[1]}" for v in VARIABLES])
def test_each_variable_sets_its_own_field_alone(name, text, get, expected):
    assert get(read(**{name: text})) == expected
    assert get(Config()) != expected
    for other, _, get_other, _ in VARIABLES:
        if other != name:
            assert get_other(read(**{name: text})) == get_other(Config())


@pytest.mark.parametrize("name", sorted({v[0] for v in VARIABLES}))
def test_an_empty_variable_counts_as_unset(name):
    assert read(**{name: ""}) == Config()


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("BATCH_SIZE", "many"), ("BATCH_SIZE", "0"), ("BATCH_SIZE", "1.5"), ("DIMENSION", "-1"), ("DIMENSION", "512d"),
        ("DISTANCE_TYPE", "Hamming"), ("DISTANCE_TYPE", "cosine"), ("NB_NEIGHBORS", "0"), ("NB_WORKERS", "x"),
        ("INDEX_ENGINE", "ngt"), ("ENCODER_ENGINE", "fast"), ("ENCODER_THREADS", "0"), ("FEATURES_MB", "63"),
        ("NB_WORKERS", "0"), ("DEAD_LETTER_LIMIT", "-1"), ("THRESHOLD", "1.01"), ("THRESHOLD", "-0.1"),
        ("THRESHOLD", "nan"), ("THRESHOLD", "high"), ("ALERT_RECOLOURED", "maybe"), ("WIDTH", "15"), ("HEIGHT", "tall"),
        ("TOPIC_PREFIX", "team a"), ("TOPIC_PREFIX", "é."), ("TOPIC_PREFIX", "p" * 201),
        ("SHARD", "4/4"), ("SHARD", "2"),
        ("KAFKA_GROUP_PROTOCOL", "modern"), ("KEEP_ORDER", "prettiest"), ("KEEP_ORDER", "whole,whole"),
        ("KEEP_ORDER", "whole,"), ("METRICS_PORT", "65536"), ("LOG_FORMAT", "xml"),
        ("OTEL_TRACES_EXPORTER", "zipkin"), ("OTEL_SDK_DISABLED", "maybe"),
    ],
)  # fmt: skip
def test_a_wrong_value_is_refused_by_its_variables_name(name, text):
    with pytest.raises(ConfigError, match=name) as caught:
        read(**{name: text})
    assert text in str(caught.value)


@given(name=st.sampled_from([v[0] for v in VARIABLES]), text=st.text(max_size=20))
def test_any_text_is_taken_or_is_a_config_error(name, text):
    with contextlib.suppress(ConfigError):
        assert isinstance(read(**{name: text}), Config)


def test_settings_of_librdkafka_are_passed_by_its_own_names():
    environ = {
        "KAFKA_SECURITY_PROTOCOL": "SASL_SSL",
        "KAFKA_SASL_MECHANISM": "PLAIN",
        "KAFKA_SASL_USERNAME": "someone",
        "KAFKA_SASL_PASSWORD": "geheim=1 _x",
        "KAFKA_LINGER_MS": "3",
    }
    settings = read(**environ).kafka.settings
    assert settings == {
        "security.protocol": "SASL_SSL",
        "sasl.mechanism": "PLAIN",
        "sasl.username": "someone",
        "sasl.password": "geheim=1 _x",
        "linger.ms": "3",
    }


def test_a_client_takes_them_and_what_the_stages_ask_for_wins():
    kafka = read(KAFKA_SASL_MECHANISM="PLAIN", KAFKA_LINGER_MS="3", KAFKA_BOOTSTRAP_SERVERS="h:1").kafka
    settings = kafka.client(linger_ms=5, group_id="g")
    assert settings == {
        "bootstrap.servers": "h:1", "sasl.mechanism": "PLAIN", "linger.ms": 5, "group.id": "g", "log_level": "2",
    }  # fmt: skip
    # the one name of librdkafka's that has an underscore
    assert read(KAFKA_LOG_LEVEL="6").kafka.client()["log_level"] == "6"
    assert Producer(kafka.client()) is not None
    Consumer(kafka.client(group_id="g")).close()


@pytest.mark.parametrize("name", ["KAFKA_SERVICE_HOST", "KAFKA_PORT_9092_TCP_ADDR", "KAFKA_HEAP_OPTS"])
def test_names_that_kubernetes_injects_are_ignored_with_a_warning(name, caplog):
    with caplog.at_level(logging.WARNING):
        assert read(**{name: "10.0.0.1"}).kafka.settings == {}
    assert name in caplog.text


def test_other_variables_are_none_of_ours(caplog):
    with caplog.at_level(logging.WARNING):
        assert read(PATH="/bin", HOME="/root", NOT_KAFKA_LINGER_MS="x") == Config()
    assert caplog.text == ""


@pytest.mark.parametrize("name", sorted(EXACTLY_ONCE))
def test_what_exactly_once_rests_on_cannot_be_set(name):
    variable = "KAFKA_" + name.upper().replace(".", "_")
    with pytest.raises(ConfigError, match=variable) as caught:
        read(**{variable: "true"})
    assert "exactly-once" in str(caught.value)


@pytest.mark.parametrize(
    ("variable", "text"),
    [("KAFKA_LINGER_MS", "soon"), ("KAFKA_SECURITY_PROTOCOL", "CARRIER_PIGEON"), ("KAFKA_COMPRESSION_TYPE", "rar")],
)
def test_a_value_that_librdkafka_refuses_names_its_variable(variable, text):
    with pytest.raises(ConfigError, match=variable):
        read(**{variable: text})


def test_a_topic_has_the_prefix():
    assert read(TOPIC_PREFIX="team-a.").kafka.topic("images.new") == "team-a.images.new"


def test_a_config_cannot_be_changed():
    with pytest.raises(AttributeError):
        read().batch_size = 3  # type: ignore[misc]


BRIDGE_VARIABLES = [
    ("IMAGES_DIR", "/data", "images_dir", Path("/data")),
    ("BRIDGE_HOST", "0.0.0.0", "host", "0.0.0.0"),
    ("SERVER_PORT", "9000", "port", 9000),
    ("BRIDGE_TOKEN", "a secret", "token", "a secret"),
    ("BRIDGE_TIMEOUT_S", "2.5", "timeout_s", 2.5),
    ("BRIDGE_IN_FLIGHT", "8", "in_flight", 8),
    ("BRIDGE_BODY_TIMEOUT_S", "1.5", "body_timeout_s", 1.5),
    ("BRIDGE_BODIES", "4", "bodies", 4),
    ("LOG_FORMAT", "json", "log_format", "json"),
    ("OTEL_TRACES_EXPORTER", "otlp", "traces", TracesConfig("otlp")),
    ("NB_NEIGHBORS", "50", "neighbors", 50),
    ("KAFKA_BOOTSTRAP_SERVERS", "a:1", "kafka", KafkaConfig("a:1")),
]


@pytest.mark.parametrize(("name", "text", "field", "expected"), BRIDGE_VARIABLES, ids=[v[0] for v in BRIDGE_VARIABLES])
def test_each_variable_of_the_bridge_sets_its_own_field_alone(name, text, field, expected):
    config = BridgeConfig.from_env({name: text})
    assert getattr(config, field) == expected
    assert replace(config, **{field: getattr(BridgeConfig(), field)}) == BridgeConfig()
    assert BridgeConfig.from_env({name: ""}) == BridgeConfig()


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("SERVER_PORT", "65536"), ("SERVER_PORT", "-1"), ("SERVER_PORT", "http"), ("BRIDGE_TIMEOUT_S", "0"),
        ("BRIDGE_TIMEOUT_S", "nan"), ("BRIDGE_TIMEOUT_S", "601"), ("BRIDGE_IN_FLIGHT", "0"), ("NB_NEIGHBORS", "none"),
        ("BRIDGE_BODY_TIMEOUT_S", "0"), ("BRIDGE_BODIES", "0"),
    ],
)  # fmt: skip
def test_a_wrong_variable_of_the_bridge_is_named(name, text):
    with pytest.raises(ConfigError, match=name):
        BridgeConfig.from_env({name: text})


@pytest.mark.parametrize(
    ("config", "address"),
    [
        (BridgeConfig(), "http://127.0.0.1:8500/"),
        (BridgeConfig(host="0.0.0.0", port=80), "http://localhost:80/"),
        (BridgeConfig(host="::1", port=9000), "http://[::1]:9000/"),
    ],
)
def test_the_address_of_the_page(config, address):
    assert config.address == address


def test_source_and_target_are_the_folder_of_images_unless_they_are_named_or_there(tmp_path, monkeypatch):
    config = read(IMAGES_DIR="/data")
    assert (config.source_dir, config.target_dir) == (Path("/data"), Path("/data"))
    config = read(IMAGES_DIR="/data", SOURCE_DIR="/source", TARGET_DIR="/target")
    assert (config.images_dir, config.source_dir, config.target_dir) == (
        Path("/data"),
        Path("/source"),
        Path("/target"),
    )
    monkeypatch.setattr("streams.config.HOME", tmp_path)
    (tmp_path / "source").mkdir()
    config = read(IMAGES_DIR="/data")
    assert (config.source_dir, config.target_dir) == (tmp_path / "source", Path("/data"))
