"""The command line. Each command only translates: options to settings, errors to one line of text."""

import os
import signal
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, TypeVar

import click

from imagetools.logs import keep_console_clear
from imagetools.paths import printable

F = TypeVar("F", bound=Callable[..., Any])

DEFAULT_DATA = Path("imagetools-data")
DATA = "The folder that Kafka keeps its data in."
LONG_RUNNING = {"encoder", "search", "matcher", "bridge"}
"""Commands whose standard error output is their log."""

KAFKA = {
    "KAFKA_BOOTSTRAP_SERVERS": "Kafka's address, host:port.  [default: localhost:9092]",
    "TOPIC_PREFIX": "In front of every topic and group.",
    "SCHEMA_REGISTRY_URL": "A schema registry; without one, messages name their schema themselves.",
    "EMBEDDINGS_TOPIC": "The log of fingerprints.  [default: embeddings]",
    "KAFKA_GROUP_PROTOCOL": "classic, or consumer (brokers from 4.0).  [default: classic]",
}
IMAGES = {"IMAGES_DIR": "The folder that every path is relative to.  [default: /home/solver/images]"}
MODEL = {
    "MODELS_DIR": "Where the model is looked for before the package.  [default: /home/solver/models]",
    "MODELS_NAME": "The model's file name.  [default: resnet18.th]",
    "ENCODER_ENGINE": "auto, torch or openvino.  [default: auto, the fastest that is there]",
    "ENCODER_THREADS": "Of the engine.  [default: as many as there are cores]",
}
INDEX = {"INDEX_DIR": "Snapshots of the index.  [default: /home/solver/location]"}
SEARCH = {
    "NB_NEIGHBORS": "Neighbors of each image, in distinct fingerprints.  [default: 10]",
    "DISTANCE_TYPE": "Cosine, Normalized Cosine, Angle, L1 or L2.  [default: Cosine]",
    "DIMENSION": "Of a fingerprint, checked.  [default: as the log]",
    "BATCH_SIZE": "Vectors that a rebuild inserts at a time.  [default: 1024]",
}
MATCH = {
    "THRESHOLD": "The score from which a pair is called a duplicate.  [default: 0.75]",
    "WIDTH": "Of the box that images are fitted to, pixels.  [default: 160]",
    "HEIGHT": "Of that box, pixels.  [default: 160]",
    "NB_WORKERS": "Images that the matcher reads at a time; it computes on no more cores than so many.  [default: 8]",
}
FEATURES = {"FEATURES_DIR": "Where features are kept on disk, too; a local one.  [default: in memory alone]"}
ROOM = {"FEATURES_MB": "Of disk that features may take, MB; 1,000 hold some 10,000 images.  [default: 8192]"}
BRIDGE = {
    "SERVER_PORT": "One port, with the named paths alone.  [default: 8500, 8800 and 8300, one for each contract]",
    "BRIDGE_HOST": "The address that it listens on.  [default: 127.0.0.1]",
    "BRIDGE_TIMEOUT_S": "How long a stage may take to answer, seconds.  [default: 10]",
    "BRIDGE_IN_FLIGHT": "Requests that may wait at a time; one more gets 429.  [default: 256]",
    "BRIDGE_BODY_TIMEOUT_S": "How long a body may take to come, seconds, and one more a 16 KB.  [default: 20]",
    "BRIDGE_BODIES": "Bodies that may be coming at a time; the furthest behind gets 408.  [default: 128]",
}
VIEW = {"BRIDGE_DIR": "Where what became of each image is kept across restarts.  [default: read again at each start]"}
LIMIT = {
    "DEAD_LETTER_LIMIT": "After this many dead letters in a row a stage checks its inputs; 0: never.  [default: 100]"
}


FROM = click.option(
    "--from",
    "start_from",
    type=click.Choice(["earliest", "latest"]),
    help="Where to go on when the group has lost its offsets; earliest repeats every alert.",
)


def _say(text: str) -> None:
    click.echo(text, err=True)


def settings(*groups: dict[str, str]) -> Callable[[F], F]:
    """Options for environment variables, of the same names; the function gets `environ`, options winning."""

    def decorate(function: F) -> F:
        names = [name for group in groups for name in group]

        def run(**options: Any) -> Any:
            given = {name: options.pop(name.lower()) for name in names}
            return function(
                environ={**os.environ, **{name: text for name, text in given.items() if text is not None}}, **options
            )

        run.__name__, run.__doc__ = function.__name__, function.__doc__
        run.__click_params__ = list(getattr(function, "__click_params__", []))  # type: ignore[attr-defined]
        for group in reversed(groups):
            for name, text in reversed(group.items()):
                flag = "--" + name.lower().replace("_", "-")
                run = click.option(flag, name.lower(), default=None, metavar="VALUE", help=f"{text} [{name}]")(run)
        return run  # type: ignore[return-value]

    return decorate


class Ended(click.ClickException):
    """A command that ends with this code, and one line where there is something to say."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.exit_code = code  # type: ignore[misc]  # click declares it on the class

    def show(self, file: IO[Any] | None = None) -> None:
        """Print the line."""
        if self.message:
            super().show(file)


class Commands(click.Group):
    """A group whose errors are one line."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; what it raises becomes one line and an exit code, as streams.exit_codes has it."""
        try:
            return super().invoke(ctx)
        except click.ClickException as exc:
            # a word of the command line may hold a newline; help that comes as an error has lines of its own
            of_a_word = isinstance(exc, click.UsageError) and not isinstance(exc, click.exceptions.NoArgsIsHelpError)
            exc.message = printable(exc.message, keep="" if of_a_word else "\n")  # type: ignore[misc]
            raise
        except (click.exceptions.Exit, click.Abort, BrokenPipeError):
            raise
        except (Exception, KeyboardInterrupt) as exc:
            raise _ended(exc, ctx.invoked_subcommand or "") from exc


def _ended(exc: BaseException, command: str) -> Ended:
    """How a command ends that raised this."""
    from imagetools.errors import RegistryAway  # noqa: PLC0415
    from streams.exit_codes import EXIT_REFUSED, exit_code, is_fault  # noqa: PLC0415
    from streams.kafka.errors import reason_of  # noqa: PLC0415

    code = exit_code(exc)
    if isinstance(exc, KeyboardInterrupt):
        return Ended("", code)
    if isinstance(exc, ImportError) and ("libGL" in str(exc) or "libgthread" in str(exc)):
        lacking = f"OpenCV needs a system library: {exc}. On Debian and Ubuntu: apt-get install libgl1 libglib2.0-0"
        return Ended(lacking, EXIT_REFUSED)
    if isinstance(exc, RegistryAway):
        return Ended(str(exc), EXIT_REFUSED)
    if not is_fault(exc):
        return Ended(printable(reason_of(exc), keep="\n"), code)
    return Ended(_fault(exc, command), code)


def _fault(exc: BaseException, command: str) -> str:
    """A line about what nobody foresaw, when its traceback is where it can be found."""
    from imagetools.last_words import written  # noqa: PLC0415

    text = "".join(traceback.format_exception(exc))
    if command in LONG_RUNNING:
        click.echo(text, err=True)
        place = "above"
    else:
        place = f"in {written(text, f'{command}.log')}"
    return f"{type(exc).__name__}: {exc}. This is a fault of imagetools; its traceback is {place}"


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="imagetools-kafka")
def main() -> None:
    """Find images that duplicate others: re-encoded, resized, cropped, mirrored, turned, recoloured, captioned.

    \b
    Try it on a folder:        imagetools find DIR
    Run it as a service:       imagetools up --images-dir DIR
                               imagetools produce DIR        announce images
                               imagetools watch              see alerts as they come
    On your own Kafka:         set KAFKA_BOOTSTRAP_SERVERS, then
                               imagetools topics create
                               imagetools encoder | search | matcher | bridge
    """  # noqa: D301 - click's mark for lines to keep as they are
    keep_console_clear()


@main.command()
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--report", type=click.Path(file_okay=False, path_type=Path), help="Write a report into this folder.")
@click.option("--broker", metavar="HOST:PORT", help="Use this Kafka, under a fresh prefix that is removed afterwards.")
@click.option("--encoders", default=1, show_default=True, type=click.IntRange(1), help="Encoder processes.")
@click.option("--matchers", default=1, show_default=True, type=click.IntRange(1), help="Matcher processes.")
@settings(MODEL, SEARCH, MATCH, FEATURES, ROOM)
def find(
    environ: dict[str, str], folder: Path, report: Path | None, broker: str | None, encoders: int, matchers: int
) -> None:
    """Find all duplicates among the images in FOLDER.

    Starts a Kafka of its own, runs the whole pipeline on it, prints each alert as it comes, and stops everything when
    every image has its verdict. The report folder then holds report.html (duplicates side by side; open it in a
    browser), alerts.jsonl, dead-letters.jsonl, not-looked-at.jsonl and summary.json.

    Ctrl-C ends it early: the report then holds what is done, and says that it is partial.
    """
    from cli.find import find as run  # noqa: PLC0415

    run(folder, report, bootstrap=broker, environ=environ, encoders=encoders, matchers=matchers)


@main.command()
@click.option("--folder", default=Path("demo"), show_default=True, type=click.Path(path_type=Path), help="Where.")
def demo(folder: Path) -> None:
    """Plant edited copies among sample photos, run the whole pipeline, and score what it finds.

    Writes the images, the report and the list of planted copies into the folder.
    """
    from cli.demo import run  # noqa: PLC0415

    run(folder)


@main.command()
@click.option("--data", default=DEFAULT_DATA, show_default=True, type=click.Path(path_type=Path), help="Its data.")
@click.option("--port", default=9092, show_default=True, type=click.IntRange(1, 65535), help="Kafka's port here.")
@click.option("--encoders", default=1, show_default=True, type=click.IntRange(0), help="Encoder processes.")
@click.option("--matchers", default=1, show_default=True, type=click.IntRange(1), help="Matcher processes.")
@FROM
@settings(IMAGES, KAFKA, MODEL, SEARCH, MATCH, ROOM, LIMIT, BRIDGE)
def up(environ: dict[str, str], data: Path, port: int, encoders: int, matchers: int, start_from: str | None) -> None:
    """Run the whole service and its page until Ctrl-C; started again, it goes on where it was.

    Uses the Kafka that KAFKA_BOOTSTRAP_SERVERS names; without one it runs its own on this machine, with its data in
    the data folder. Logs are in the data folder, too.
    """
    from cli.up import up as run  # noqa: PLC0415

    run(data, port, environ, encoders=encoders, matchers=matchers, start_from=start_from)


@main.command()
@click.argument("source", metavar="DIR|FILE|-")
@click.option(
    "--no-alert",
    is_flag=True,
    help="Load an existing collection: compare these with nothing, and no image with those that are not through yet.",
)
@click.option("--remove", is_flag=True, help="Announce that these images are gone.")
@click.option("--wait", is_flag=True, help="Wait for what becomes of each image, and print it.")
@click.option("--json", "as_lines", is_flag=True, help="With --wait: one line of JSON an image.")
@settings({"IMAGES_DIR": "The service's folder of images.  [default: that of the encoder on this machine]"}, KAFKA)
def produce(environ: dict[str, str], source: str, no_alert: bool, remove: bool, wait: bool, as_lines: bool) -> None:
    """Announce images on the topic images.new.

    DIR: every image in it. FILE: that image, or a text file with a path on each line. -: such lines from standard
    input. Paths are announced relative to the service's folder of images; a path is looked up here, then in that
    folder (lines: in that folder, then here), and what lies outside it is refused.

    Exit codes: 0 announced and, with --wait, decided; 2 something was refused; 3 with --wait: some could not be used;
    130 interrupted.
    """
    from cli.produce import ProduceOptions  # noqa: PLC0415
    from cli.produce import produce as run  # noqa: PLC0415
    from streams.config import Config  # noqa: PLC0415
    from streams.kafka.admin import reach  # noqa: PLC0415
    from streams.kafka.pulse import Pulse  # noqa: PLC0415

    if wait and remove:
        raise click.UsageError("--wait and --remove: a removal gets no verdict")
    if as_lines and not wait:
        raise click.UsageError("--json is for --wait")
    config = Config.from_env(environ)
    options = ProduceOptions(source, environ.get("IMAGES_DIR") or None, no_alert, remove, wait, as_lines)
    kafka = reach(config.kafka)
    with Pulse(kafka, _say):
        code = run(kafka, options)
    raise SystemExit(code)


@main.command()
@click.option("--json", "as_lines", is_flag=True, help="One line of JSON each.")
@click.option("--from-beginning", is_flag=True, help="Past alerts, too.")
@settings(KAFKA)
def watch(environ: dict[str, str], as_lines: bool, from_beginning: bool) -> None:
    """Print each alert, and each dead letter, as it comes, until Ctrl-C.

    What a stage waits for, or died of, goes to standard error. With --json an alert is an object with the field
    candidate, and a dead letter {"dead_letter": {...}}.
    """
    from cli.watch import watch as run  # noqa: PLC0415
    from streams.config import Config  # noqa: PLC0415
    from streams.kafka.admin import reach  # noqa: PLC0415
    from streams.kafka.pulse import Pulse  # noqa: PLC0415

    kafka = reach(Config.from_env(environ).kafka)
    with Pulse(kafka, _say):
        run(kafka, as_lines=as_lines, from_beginning=from_beginning)


@main.command()
@settings(KAFKA)
def status(environ: dict[str, str]) -> None:
    """Show how far each stage is, what its processes do or wait for, and what was set aside."""
    from cli.status import show  # noqa: PLC0415
    from streams.config import Config  # noqa: PLC0415
    from streams.kafka.admin import reach  # noqa: PLC0415
    from streams.kafka.pulse import Pulse  # noqa: PLC0415

    kafka = reach(Config.from_env(environ).kafka)
    with Pulse(kafka, _say):
        show(kafka)


@main.command()
@click.argument("a", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.argument("b", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--picture", type=click.Path(dir_okay=False, path_type=Path), help="Draw the pair and its inliers here.")
@settings(MATCH)
def compare(environ: dict[str, str], a: Path, b: Path, picture: Path | None) -> None:
    """Decide whether images A and B show the same picture, and say why. Needs no Kafka."""
    from cli.compare import compare as run  # noqa: PLC0415
    from streams.config import Config  # noqa: PLC0415

    run(a, b, picture, Config.from_env(environ).matcher)


@main.command()
@click.argument("folder", metavar="DIR", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--out", required=True, type=click.Path(dir_okay=False, path_type=Path), help="The model file to write.")
@click.option("--minutes", default=120.0, show_default=True, type=click.FloatRange(0, min_open=True), help="Time.")
@click.option("--steps", type=click.IntRange(0), help="So many batches; 0: only a new projection.")
@click.option(
    "--from", "model", type=click.Path(path_type=Path), help="Start from this file.  [default: the package's]"
)
@click.option("--teacher", type=click.Path(path_type=Path), help="Learn from this model's fingerprints, too.")
@click.option("--size", default=128, show_default=True, type=click.IntRange(32, 512), help="Pixels of a view's side.")
@click.option("--batch", default=64, show_default=True, type=click.IntRange(4), help="Photos a step.")
@click.option("--rate", default=2e-4, show_default=True, type=click.FloatRange(0, 0.1, min_open=True), help="Learning.")
@click.option("--exclude", multiple=True, metavar="PREFIX", help="Leave out paths in DIR that begin so.")
@click.option("--seed", default=0, show_default=True, help="The same seed and steps give the same model.")
@click.option("--measure/--no-measure", default=True, help="Retrieval on held-out photos, before and after.")
@click.option("--resume", is_flag=True, help="Go on with a run that was interrupted or killed.")
def train(
    folder: Path, out: Path, model: Path | None, teacher: Path | None, exclude: tuple[str, ...], measure: bool,
    resume: bool, **numbers: Any,
) -> None:  # fmt: skip
    """Adapt the fingerprint to the photos in DIR, and write a model file for MODELS_NAME.

    Needs no labels: the network learns to tell edited copies of a photo from all other photos. A tenth of the photos,
    at most a hundred, is kept apart to measure with. Beside the file, NAME.training holds the run: a checkpoint, the
    log and its plot, and the held-out photos' paths. Ctrl-C leaves a checkpoint.
    """
    _calm_threads()
    from cli.train import TrainOptions, stop_kept  # noqa: PLC0415
    from cli.train import train as run  # noqa: PLC0415
    from training.config import TrainConfig  # noqa: PLC0415

    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        run(TrainOptions(folder, out, model, teacher, exclude, resume, measure), TrainConfig(**numbers))
    except KeyboardInterrupt:
        stop_kept(out)
        raise


@main.command()
@click.argument("folder", metavar="DIR", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--out", required=True, type=click.Path(dir_okay=False, path_type=Path), help="The .onnx file to write.")
@click.option("--from", "model", type=click.Path(path_type=Path), help="Quantize this file.  [default: the package's]")
@click.option("--size", default=160, show_default=True, type=click.IntRange(32, 512), help="Pixels of an image's side.")
@click.option("--exclude", multiple=True, metavar="PREFIX", help="Leave out paths in DIR that begin so.")
@click.option("--seed", default=0, show_default=True, help="The same seed and photos give the same model.")
@click.option("--measure/--no-measure", default=True, help="Retrieval on held-out photos, before and after.")
def quantize(
    folder: Path, out: Path, model: Path | None, size: int, exclude: tuple[str, ...], seed: int, measure: bool
) -> None:
    """Write a model that computes in 8-bit integers, for MODELS_NAME, by the photos in DIR.

    Then shows its speed on this machine beside that of the model before, and how many edited copies of held-out photos
    find their original with either. It is another model: `imagetools reencode` moves a collection to it. Needs
    pip install -e '.[int8]' in the clone; running the model does not.
    """
    from cli.quantize import QuantizeOptions  # noqa: PLC0415
    from cli.quantize import quantize as run  # noqa: PLC0415

    run(QuantizeOptions(folder, out, model, exclude, size, measure, seed))


def _calm_threads() -> None:
    """Let OpenMP's threads sleep soon.

    They spin for milliseconds first, which doubles the CPU time of a network next to another busy process. It is read
    when torch is loaded, so this has to come before.
    """
    os.environ.setdefault("GOMP_SPINCOUNT", "3000")


def _stage(name: str, text: str, *groups: dict[str, str]) -> None:
    @main.command(name, help=text)
    @click.option("--stop-with-stdin", is_flag=True, help="Stop when standard input ends.")
    @FROM
    @settings(KAFKA, *groups, LIMIT)
    def run(environ: dict[str, str], stop_with_stdin: bool, start_from: str | None) -> None:
        _calm_threads()

        from dataclasses import replace  # noqa: PLC0415
        from importlib import import_module  # noqa: PLC0415

        from streams.config import Config  # noqa: PLC0415

        if stop_with_stdin:
            from cli.supervisor import stop_with_stdin as follow_stdin  # noqa: PLC0415

            follow_stdin()
        config = Config.from_env(environ)
        config = replace(config, kafka=replace(config.kafka, start_from=start_from))
        import_module(f"streams.{name}_consumer").main(config)


_stage("encoder", "Run one encoder: images.new → embeddings. As many as there are partitions may run.", IMAGES, MODEL)
_stage("search", "Run one search: embeddings → candidates. One works; a second one stands by.", INDEX, SEARCH)
_stage(
    "matcher",
    "Run one matcher: candidates → duplicates, verdicts. As many as there are partitions may run.",
    IMAGES,
    MATCH,
    FEATURES,
    ROOM,
)


@main.command()
@click.option("--to", "target", required=True, metavar="TOPIC", help="The second log, such as embeddings.2.")
@click.option("--switch", is_flag=True, help="Let search follow the second log from here on.")
@settings(IMAGES, KAFKA, MODEL)
def reencode(environ: dict[str, str], target: str, switch: bool) -> None:
    """Move the collection to the model that MODELS_NAME names, while the service runs.

    \b
    1. imagetools reencode --to embeddings.2 --models-name NEW
       gives every image its fingerprint by the new model, in a second log, and ends when it has caught up. It can be
       stopped and run again; the service goes on with the old one meanwhile.
    2. Stop the encoders (of `up`: start it again with --encoders 0). Announcements wait in images.new.
    3. imagetools reencode --to embeddings.2 --models-name NEW --switch
       copies what has come since, when search has seen it all.
    4. Stop search, and start all with MODELS_NAME=NEW and EMBEDDINGS_TOPIC=embeddings.2.

    No alert is repeated and none is lost.
    """  # noqa: D301 - click's mark for lines to keep as they are
    from confluent_kafka import KafkaException  # noqa: PLC0415

    from cli.reencode import reencode as run  # noqa: PLC0415
    from streams.config import Config  # noqa: PLC0415
    from streams.kafka.errors import with_remedy  # noqa: PLC0415
    from streams.kafka.pulse import Pulse  # noqa: PLC0415

    signal.signal(signal.SIGTERM, signal.default_int_handler)
    config = Config.from_env(environ)
    try:
        with Pulse(config.kafka, _say):
            run(config, target, switch=switch)
    except KafkaException as exc:
        raise with_remedy(config.kafka, exc) from exc
    except KeyboardInterrupt:
        click.echo("Interrupted: the same command goes on", err=True)
        raise


@main.command()
@click.option("--stop-with-stdin", is_flag=True, help="Stop when standard input ends.")
@settings(IMAGES, KAFKA, BRIDGE, VIEW, {"NB_NEIGHBORS": SEARCH["NB_NEIGHBORS"]})
def bridge(environ: dict[str, str], stop_with_stdin: bool) -> None:
    """Serve HTTP: the three endpoints, uploads, alerts as they come, and a page. As many as you like may run.

    BRIDGE_TOKEN, in the environment alone, is then asked of everybody but for health.
    """
    from http_bridge.server import main as run  # noqa: PLC0415
    from streams.config import BridgeConfig  # noqa: PLC0415

    if stop_with_stdin:
        from cli.supervisor import stop_with_stdin as follow_stdin  # noqa: PLC0415

        follow_stdin()
    run(BridgeConfig.from_env(environ))


@main.group()
def kafka() -> None:
    """A real Kafka on this machine, without Docker or an installed Java."""


@kafka.command("start")
@click.option("--data", default=DEFAULT_DATA / "kafka", show_default=True, type=click.Path(path_type=Path), help=DATA)
@click.option("--port", default=9092, show_default=True, type=click.IntRange(1, 65535), help="Its port here.")
def kafka_start(data: Path, port: int) -> None:
    """Start it in the background and print its address."""
    from local_kafka.broker import LocalKafka  # noqa: PLC0415

    running = LocalKafka.attach(data) or LocalKafka.start(
        data, port=port, detached=True, progress=lambda text: click.echo(f"{text} …", err=True)
    )
    click.echo(running.bootstrap)


@kafka.command("stop")
@click.option("--data", default=DEFAULT_DATA / "kafka", show_default=True, type=click.Path(path_type=Path), help=DATA)
def kafka_stop(data: Path) -> None:
    """Stop the one that `kafka start` started."""
    from local_kafka.broker import LocalKafka  # noqa: PLC0415

    click.echo("stopped" if LocalKafka.stop_detached(data) else f"none runs with its data in {data}", err=True)


@main.group()
def topics() -> None:
    """The topics on the cluster."""


@topics.command("create")
@click.option("--replication", default=-1, help="Copies of each partition; -1: the broker's default.", type=int)
@settings(KAFKA)
def topics_create(environ: dict[str, str], replication: int) -> None:
    """Create the topics that are missing, and the groups' first offsets. Doing it twice changes nothing."""
    from streams.config import Config  # noqa: PLC0415
    from streams.kafka.admin import create_topics, reach  # noqa: PLC0415

    made = create_topics(reach(Config.from_env(environ).kafka), replication=replication)
    for name in made:
        click.echo(name)
    if not made:
        click.echo("all there", err=True)
