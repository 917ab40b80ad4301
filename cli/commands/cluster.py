"""Commands about Kafka itself: kafka start, kafka stop, topics create."""

from pathlib import Path

import click

from cli.commands import options
from streams.sharding.shards import MAX_SHARDS, Shard

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
@click.option("--registry", is_flag=True, help="Also start a schema registry, and print the variable that names it.")
@click.option(
    "--registry-port", default=8081, show_default=True, type=click.IntRange(1, 65535), help="The registry's port."
)
def start(data: Path, port: int, registry: bool, registry_port: int) -> None:
    """Start Kafka in the background and print its address.

    A registry keeps its schemas in the data folder, too, since messages name them by their numbers there.
    """
    from cli.background_kafka import start as run

    bootstrap, url = run(
        data, port, registry_port if registry else None, lambda text: click.echo(f"{text} …", err=True)
    )
    click.echo(bootstrap)
    if url:
        click.echo(f"export SCHEMA_REGISTRY_URL={url}")


@kafka.command()
@_data
def stop(data: Path) -> None:
    """Stop the Kafka that `kafka start` started, and its registry."""
    from cli.background_kafka import stop as run

    click.echo("stopped" if run(data) else f"none runs with its data in {data}", err=True)


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
    from streams.kafka.admin import create_topics, reach, shard_groups
    from streams.kafka.authorization import explained, require_rights
    from streams.kafka.retries import until_ready
    from streams.kafka.topic_limits import raise_limits

    kafka = reach(Config.from_env(environ).kafka)
    until_ready(lambda: require_rights(kafka, "topics create"))
    present = shard_groups(kafka).answering
    if shards is not None and present not in (None, shards):
        raise ConfigError(f"the index has {present} shards: `imagetools reshard {shards}` changes that")
    kafka = replace(kafka, shard=Shard(0, shards or present or 1))
    with explained(kafka, "topics create"):
        created = create_topics(kafka, replication=replication)
    for name in created:
        click.echo(name)
    raised = raise_limits(kafka, created)
    for sentence in raised:
        click.echo(sentence, err=True)
    if not created and not raised:
        click.echo("all there", err=True)


@click.command()
@click.argument("count", required=False, type=click.IntRange(1, MAX_SHARDS))
@click.option("--to", "count_to", hidden=True, type=click.IntRange(1, MAX_SHARDS), help="COUNT, as an option.")
@options.setting_options(*options.KAFKA)
def reshard(environ: dict[str, str], count: int | None, count_to: int | None) -> None:
    """Divide the index into COUNT shards, while the service runs.

    \b
    1. imagetools reshard 3
       makes the consumer groups of three new shards, and waits.
    2. Start three searches, SHARD=0/3 to SHARD=2/3, beside the old ones. `imagetools up` does so by itself. Each reads
       the log of fingerprints, then follows it without answering; the command shows how far each is.
    3. When all have caught up, a mark in the log lets the new shards answer for all later images. The old ones answer
       for those before it.
    4. Stop the old searches when the command says so. It then removes their groups.

    No alert is repeated and none is lost. Ctrl-C before the switch leaves the old shards in charge. Run again, the
    command goes on where it was; with the old number instead, it takes the new shards away.

    Where no search runs, the new shards go on where the old ones have stopped.
    """  # noqa: D301 - click's mark for lines to keep as they are
    import signal

    from confluent_kafka import KafkaException

    from cli.reshard import reshard as run
    from streams.config import Config
    from streams.kafka.admin import reach
    from streams.kafka.authorization import explained, require_rights
    from streams.kafka.errors import with_remedy
    from streams.kafka.retries import until_ready

    wanted = count or count_to
    if wanted is None:
        raise click.UsageError("COUNT is missing: how many shards the index gets, such as `imagetools reshard 3`")
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    kafka = reach(Config.from_env(environ).kafka)
    try:
        with explained(kafka, "reshard"):
            until_ready(lambda: require_rights(kafka, "reshard"))
            run(kafka, wanted)
    except KafkaException as exc:
        raise with_remedy(kafka, exc) from exc
