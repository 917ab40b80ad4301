"""Commands that run the service: up, the four stages, the bridge, reencode."""

import os
import signal
from pathlib import Path

import click

from cli.commands import options
from cli.standard_error import say
from streams import settings
from streams.settings import Reader
from streams.sharding.shards import MAX_SHARDS


def shorten_spinning() -> None:
    """Let OpenMP's idle threads sleep early.

    By default they spin for milliseconds, which doubles the CPU time of a network next to another busy process. OpenMP
    reads the variable when torch is loaded, so call this before.
    """
    os.environ.setdefault("GOMP_SPINCOUNT", "3000")


@click.command()
@click.option(
    "--data",
    default=options.DATA_FOLDER,
    show_default=True,
    type=options.OutputPath(),
    help="The folder for Kafka's data, the index, features and logs.",
)
@click.option(
    "--port", default=9092, show_default=True, type=click.IntRange(1, 65535), help="The port for Kafka on this machine."
)
@click.option("--encoders", default=1, show_default=True, type=click.IntRange(0), help="Number of encoder processes.")
@click.option(
    "--shards",
    type=click.IntRange(1, MAX_SHARDS),
    help="Number of search processes that share the index.  [default: as many as there are; 1 at first]",
)
@click.option(
    "--replicas",
    default=1,
    show_default=True,
    type=click.IntRange(1),
    help="Number of search processes for each shard: one works, the others follow and take over when it dies.",
)
@options.matchers
@options.start_from
@options.setting_options(
    settings.IMAGES_DIR, settings.IMAGES_PRIVATE, options.OWN_KAFKA, *options.KAFKA[1:], *options.MODEL,
    *options.SEARCH, *options.MATCHER, *options.GROUPING, settings.FEATURES_MB, settings.DEAD_LETTER_LIMIT,
    *options.WATCHING, *options.BRIDGE,
)  # fmt: skip
def up(
    environ: dict[str, str],
    data: Path,
    port: int,
    encoders: int,
    shards: int | None,
    replicas: int,
    matchers: int,
    start_from: str | None,
) -> None:
    """Run the whole service and its page until Ctrl-C; started again, it continues where it stopped.

    Uses the Kafka that KAFKA_BOOTSTRAP_SERVERS names; otherwise it runs its own on this machine, with its data in the
    data folder.
    """
    from cli.up import up as run

    run(
        data,
        port,
        environ,
        encoders=encoders,
        matchers=matchers,
        shards=shards,
        replicas=replicas,
        start_from=start_from,
    )


def _stage(reader: Reader, help_text: str) -> click.Command:
    @click.command(reader.value, help=help_text)
    @options.stop_with_stdin
    @options.start_from
    @options.setting_options(*options.of_reader(reader))
    def run(environ: dict[str, str], stop_with_stdin: bool, start_from: str | None) -> None:
        shorten_spinning()
        from dataclasses import replace
        from importlib import import_module

        from streams.config import Config

        if stop_with_stdin:
            _follow_stdin()
        config = Config.from_env(environ)
        config = replace(config, kafka=replace(config.kafka, start_from=start_from))
        import_module(f"streams.{reader.value}_consumer").main(config)

    return run


def _follow_stdin() -> None:
    from cli.supervising.supervisor import stop_with_stdin

    stop_with_stdin()


encoder = _stage(Reader.ENCODER, "Run an encoder: images.new → embeddings. As many as there are partitions may run.")
search = _stage(
    Reader.SEARCH, "Run a search: embeddings → candidates. One of each shard works; a second one stands by."
)
matcher = _stage(
    Reader.MATCHER, "Run a matcher: candidates → duplicates, verdicts. As many as there are partitions may run."
)

grouping = _stage(
    Reader.GROUPING, "Run a grouping: embeddings, duplicates, decisions → groups. One works; a second one stands by."
)


@click.command()
@options.stop_with_stdin
@options.setting_options(*options.of_reader(Reader.BRIDGE))
def bridge(environ: dict[str, str], stop_with_stdin: bool) -> None:
    """Serve HTTP: the three endpoints, uploads, alerts as they arrive, and a page. Any number of bridges may run.

    BRIDGE_TOKEN, in the environment only, sets a token that every request but those for health must carry.
    """
    from http_bridge.server import main as run
    from streams.config import BridgeConfig

    if stop_with_stdin:
        _follow_stdin()
    run(BridgeConfig.from_env(environ))


@click.command()
@click.option("--to", "target", required=True, metavar="TOPIC", help="The second log, such as embeddings.2.")
@click.option("--switch", is_flag=True, help="Make search follow the second log from now on.")
@options.setting_options(
    settings.IMAGES_DIR, settings.IMAGES_PRIVATE, *options.KAFKA, *options.MODEL, settings.WIDTH, settings.HEIGHT
)
def reencode(environ: dict[str, str], target: str, switch: bool) -> None:
    """Move the collection to the model that MODELS_NAME names, while the service runs.

    \b
    1. imagetools reencode --to embeddings.2 --models-name NEW
       writes every image's fingerprint by the new model to a second log, and ends when it has caught up. You can stop
       it and run it again; meanwhile the service works with the old model.
    2. Stop the encoders (of `up`: start it again with --encoders 0). Announcements wait in images.new.
    3. imagetools reencode --to embeddings.2 --models-name NEW --switch
       copies what has arrived since, once search and grouping have read all of the first log.
    4. Stop both, run `topics create`, and start everything with MODELS_NAME=NEW and EMBEDDINGS_TOPIC=embeddings.2.

    No alert is repeated and none is lost.
    """  # noqa: D301 - click's mark for lines to keep as they are
    from confluent_kafka import KafkaException

    from cli.reencode import reencode as run
    from streams.config import Config
    from streams.kafka.authorization import explained
    from streams.kafka.errors import with_remedy
    from streams.kafka.pulse import Pulse

    signal.signal(signal.SIGTERM, signal.default_int_handler)
    config = Config.from_env(environ)
    try:
        with (
            Pulse(config.kafka, say),
            explained(config.kafka, "reencode", target=target),
        ):
            run(config, target, switch=switch)
    except KafkaException as exc:
        raise with_remedy(config.kafka, exc) from exc
    except KeyboardInterrupt:
        click.echo("Interrupted: run the same command again to continue", err=True)
        raise
