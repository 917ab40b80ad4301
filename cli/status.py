"""How far each stage is."""

import time

from confluent_kafka import KafkaException
from rich.console import Console
from rich.table import Table

from streams.config import KafkaConfig
from streams.follow import missing
from streams.standings import Sampler, Standing

SAMPLE_S = 2.0


def standings(kafka: KafkaConfig) -> list[Standing]:
    """Of each stage, sampled over SAMPLE_S. PrerequisiteMissing where there is no Kafka or no topic."""
    sampler = Sampler(kafka)
    try:
        sampler.sample()
        time.sleep(SAMPLE_S)
        return sampler.sample()
    except KafkaException as exc:
        raise missing(kafka, exc) from exc
    finally:
        sampler.close()


def show(kafka: KafkaConfig) -> None:
    """Print a table of all stages."""
    table = Table("stage", "reads", "processes", "lag", "rate")
    for one in standings(kafka):
        table.add_row(one.stage, one.topic, str(one.members), f"{one.lag:,}", f"{one.rate:,.0f}/s")
    Console().print(table)
