"""Commands about Kafka itself: kafka start, kafka stop, topics create."""

from pathlib import Path

import click

from cli.commands import options

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
@click.option("--replication", default=-1, help="Copies of each partition; -1: the broker's default.", type=int)
@options.setting_options(*options.KAFKA)
def create(environ: dict[str, str], replication: int) -> None:
    """Create the missing topics, and the groups' first offsets. Running it again changes nothing.

    A topic of an earlier version that takes too small messages is put right.
    """
    from streams.config import Config
    from streams.kafka.admin import create_topics, reach
    from streams.kafka.topic_limits import raise_limits

    kafka = reach(Config.from_env(environ).kafka)
    created = create_topics(kafka, replication=replication)
    for name in created:
        click.echo(name)
    raised = raise_limits(kafka, created)
    for sentence in raised:
        click.echo(sentence, err=True)
    if not created and not raised:
        click.echo("all there", err=True)
