"""Commands about Kafka itself: kafka start, kafka stop, topics create."""

from pathlib import Path

import click

from cli.commands import options
from streams.shards import MAX_SHARDS, Shard

_data = click.option(
    "--data",
    default=options.DATA_FOLDER / "kafka",
    show_default=True,
    type=options.OutputPath(),
    help="The folder for Kafka's data.",
)


@click.group()
def kafka() -> None:
    """Run a real Kafka on this machine, without Docker or an installed Java."""


@kafka.command()
@_data
@click.option(
    "--port", default=9092, show_default=True, type=click.IntRange(1, 65535), help="The port on this machine."
)
def start(data: Path, port: int) -> None:
    """Start Kafka in the background and print its address."""
    from local_kafka.broker import LocalKafka

    running = LocalKafka.attach(data) or LocalKafka.start(
        data, port=port, detached=True, progress=lambda text: click.echo(f"{text} …", err=True)
    )
    click.echo(running.bootstrap)


@kafka.command()
@_data
def stop(data: Path) -> None:
    """Stop the Kafka that `kafka start` started."""
    from local_kafka.broker import LocalKafka

    click.echo("stopped" if LocalKafka.stop_detached(data) else f"none runs with its data in {data}", err=True)


@click.group()
def topics() -> None:
    """Manage the topics on the cluster."""


@topics.command()
def describe() -> None:
    """Print an AsyncAPI document of all topics: their settings, records and headers, and who reads and writes them."""
    import json

    from streams.asyncapi import document

    click.echo(json.dumps(document(), indent=2, ensure_ascii=False))


@topics.command()
@click.option("--replication", default=-1, help="Copies of each partition; -1: the broker's default.", type=int)
@click.option(
    "--shards",
    default=None,
    type=click.IntRange(1, MAX_SHARDS),
    help="How many shards the index of a new log has.  [default: 1]",
)
@options.setting_options(*options.KAFKA)
def create(environ: dict[str, str], replication: int, shards: int | None) -> None:
    """Create the missing topics, and the groups' first offsets. Running it again changes nothing.

    A topic of an earlier version that takes too small messages is put right.
    """
    from dataclasses import replace

    from imagetools.errors import ConfigError
    from streams.config import Config
    from streams.kafka.admin import create_topics, reach, shard_sets
    from streams.kafka.topic_limits import raise_limits

    kafka = reach(Config.from_env(environ).kafka)
    present = max(shard_sets(kafka), default=None)
    if shards is not None and present not in (None, shards):
        raise ConfigError(f"the index has {present} shards: `imagetools reshard --to {shards}` changes that")
    kafka = replace(kafka, shard=Shard(0, shards or present or 1))
    created = create_topics(kafka, replication=replication)
    for name in created:
        click.echo(name)
    raised = raise_limits(kafka, created)
    for sentence in raised:
        click.echo(sentence, err=True)
    if not created and not raised:
        click.echo("all there", err=True)


@click.command()
@click.option(
    "--to", "count", required=True, type=click.IntRange(1, MAX_SHARDS), help="How many shards the index gets."
)
@options.setting_options(*options.KAFKA)
def reshard(environ: dict[str, str], count: int) -> None:
    """Divide the index into another number of shards, while no search runs.

    \b
    1. Stop the encoders, and wait until `imagetools status` shows no lag of the search.
    2. Stop the search. Announcements wait in images.new.
    3. imagetools reshard --to 4
    4. Start search processes with SHARD=0/4 to SHARD=3/4, and the encoders. Each first reads the log of fingerprints.

    No alert is repeated and none is lost. `imagetools up --shards 4` does the same for its own service.
    """  # noqa: D301 - click's mark for lines to keep as they are
    from streams.config import Config
    from streams.kafka.admin import reach
    from streams.kafka.resharding import reshard as run

    offset = run(reach(Config.from_env(environ).kafka), count)
    names = "SHARD=0/1" if count == 1 else f"SHARD=0/{count} to SHARD={count - 1}/{count}"
    click.echo(f"From offset {offset:,} of the log on, {names} answer. Start them now.")
