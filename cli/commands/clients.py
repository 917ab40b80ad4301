"""Commands that talk to a running service: produce, dedupe, watch, status, index."""

from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from cli.commands import options
from cli.standard_error import say
from streams import settings

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from streams.config import KafkaConfig
    from streams.traces.base import Traces


@contextmanager
def traced(environ: "Mapping[str, str]") -> "Iterator[Traces]":
    """The traces of `produce`, where the settings ask for them."""
    from streams.traces import start
    from streams.traces.config import TracesConfig

    with start.traced(TracesConfig.from_env(environ), "produce") as traces:
        yield traces


@contextmanager
def connected(environ: "Mapping[str, str]", *names: str, **placeholders: str) -> "Iterator[KafkaConfig]":
    """A Kafka that answers and grants what the command needs; says so when it stops answering.

    names, placeholders  as `streams.permissions.rights_of` takes them
    PermissionMissing.
    """
    from streams.config import Config
    from streams.kafka.admin import reach
    from streams.kafka.authorization import explained, require_rights
    from streams.kafka.pulse import Pulse
    from streams.kafka.retries import until_ready

    kafka = reach(Config.from_env(environ).kafka)
    with explained(kafka, *names, **placeholders):
        until_ready(lambda: require_rights(kafka, *names, **placeholders))
        with Pulse(kafka, say):
            yield kafka


@click.command()
@click.argument("source", metavar="DIR|STORE|FILE|-", required=False)
@click.option(
    "--from-topic",
    metavar="TOPIC",
    help="Follow a bucket's notifications on this topic, S3's events as JSON, until Ctrl-C: objects that are written "
    "are announced, and objects that are deleted are announced as gone.",
)
@click.option(
    "--no-alert",
    is_flag=True,
    help="Load an existing collection: these images cause no alert, and others none about them until they are indexed. "
    "They are not compared with each other, so duplicates among them become no pairs and no groups until "
    "`imagetools dedupe`.",
)
@click.option(
    "--remove",
    is_flag=True,
    help="Announce that these images are gone. It is not checked whether the service knows them.",
)
@click.option("--wait", is_flag=True, help="Wait for the verdict on each image, and print it.")
@click.option("--json", "as_lines", is_flag=True, help="With --wait: print one line of JSON for each image.")
@click.option(
    "--no-progress",
    is_flag=True,
    help="With --no-alert: end once all is announced, instead of showing how far the encoders are until they are done.",
)
@click.option(
    "--metadata",
    multiple=True,
    metavar="NAME=VALUE",
    help="Comes back with each image in alerts and groups. Repeat it for more. A line's own metadata overrides it.",
)
@options.setting_options(options.SERVICE_IMAGES, *options.KAFKA)
def produce(
    environ: dict[str, str],
    source: str | None,
    from_topic: str | None,
    no_alert: bool,
    remove: bool,
    wait: bool,
    as_lines: bool,
    no_progress: bool,
    metadata: tuple[str, ...],
) -> None:
    """Announce images on the topic images.new.

    DIR: every image in it. STORE: every image below an address such as s3://bucket/prefix. FILE: that image, or a text
    file with an image on each line: its path, or JSON such as {"relative_path": "a.jpg", "metadata": {"sku": "4711"}}.
    -: such lines from standard input. Paths are announced relative to the service's folder or store of images. A path
    is looked up here, then in that folder (lines: in that folder, then here); a path outside it is refused.

    Exit codes: 0 announced and, with --wait, decided; 2 something was refused; 3 with --wait: some could not be used;
    130 interrupted.
    """
    from cli.produce import ProduceOptions, follow
    from cli.produce import produce as run

    if (source is None) == (from_topic is None):
        raise click.UsageError("one source is needed: DIR, STORE, FILE, -, or --from-topic")
    if from_topic is not None and (remove or wait or no_progress):
        raise click.UsageError("--from-topic: events say what is gone, and nobody waits for their verdicts")
    if wait and remove:
        raise click.UsageError("--wait and --remove: a removal gets no verdict")
    if as_lines and not wait:
        raise click.UsageError("--json is for --wait")
    if metadata and remove:
        raise click.UsageError("--metadata and --remove: an image that is gone has none")
    if no_progress and not no_alert:
        raise click.UsageError("--no-progress is for --no-alert: nothing else shows progress")
    images_dir, private = environ.get("IMAGES_DIR") or None, settings.IMAGES_PRIVATE.read(environ)
    if source is None:
        needed = ("produce", "produce --from-topic")
        with connected(environ, *needed, topic=from_topic or "") as kafka, traced(environ) as traces:
            follow(kafka, from_topic or "", images_dir, private, not no_alert, _read_metadata(metadata), traces)
        return
    chosen = ProduceOptions(
        source, images_dir, private, no_alert, remove, wait, as_lines, not no_progress, _read_metadata(metadata)
    )
    wants = ["produce", *(["produce --wait"] if wait else [])]
    wants += ["produce --no-alert"] if no_alert and not no_progress else []
    with connected(environ, *wants) as kafka, traced(environ) as traces:
        code = run(kafka, chosen, traces)
    raise SystemExit(code)


def _read_metadata(given: tuple[str, ...]) -> dict[str, str]:
    """Return the metadata that --metadata gives. UsageError."""
    from schemas.metadata import metadata_problem

    read = dict[str, str]()
    for one in given:
        name, equals, value = one.partition("=")
        if not equals:
            raise click.UsageError(f"--metadata {one}: NAME=VALUE is needed, such as sku=4711")
        if name in read:
            raise click.UsageError(f"--metadata: {name} is given twice")
        read[name] = value
    if problem := metadata_problem(read):
        raise click.UsageError(f"--metadata: {problem}")
    return read


@click.command()
@click.option("--prefix", default="", help="Search only for images whose paths begin with this, such as shop/2024/.")
@click.option("--dry-run", is_flag=True, help="Say how many images would be searched for, and send nothing.")
@options.setting_options(settings.NB_NEIGHBORS, *options.KAFKA)
def dedupe(environ: dict[str, str], prefix: str, dry_run: bool) -> None:
    """Find the duplicates inside what `produce --no-alert` has loaded.

    Each such image is searched for once and compared with those that came before it. Alerts, verdicts and groups follow
    as for new images. Nothing is encoded again. Search, matcher and grouping have to run.

    It can be interrupted and run again at any time: no pair is reported twice.
    """
    from cli.dedupe import DedupeOptions
    from cli.dedupe import dedupe as run
    from streams.config import Config

    chosen = DedupeOptions(Config.from_env(environ).nb_neighbors, prefix, dry_run)
    with connected(environ, "dedupe") as kafka:
        code = run(kafka, chosen)
    raise SystemExit(code)


@click.command()
@click.option("--json", "as_lines", is_flag=True, help="Print one line of JSON for each.")
@click.option("--from-beginning", is_flag=True, help="Print past alerts, too.")
@options.setting_options(*options.KAFKA)
def watch(environ: dict[str, str], as_lines: bool, from_beginning: bool) -> None:
    """Print each alert and each dead letter as it arrives, until Ctrl-C.

    What a stage waits for, or died of, goes to standard error. With --json an alert is an object with the field
    candidate, and a dead letter {"dead_letter": {...}}.
    """
    from cli.watch import watch as run

    with connected(environ, "watch") as kafka:
        run(kafka, as_lines=as_lines, from_beginning=from_beginning)


@click.command()
@options.setting_options(*options.KAFKA)
def status(environ: dict[str, str]) -> None:
    """Show the lag of each stage, what its processes do or wait for, and the newest dead letters."""
    from cli.status import show

    with connected(environ, "status") as kafka:
        show(kafka)


@click.command()
@click.option("--json", "as_lines", is_flag=True, help="Print one line of JSON for each search process.")
@options.setting_options(*options.KAFKA)
def index(environ: dict[str, str], as_lines: bool) -> None:
    """Show the index of each search process: images, memory, place in the log, lag, newest snapshot, engine, model.

    A fingerprint is shared if several images have it, such as copies of one file.
    """
    from cli.index import show_index

    with connected(environ, "index") as kafka:
        show_index(kafka, as_lines=as_lines)
