"""`imagetools up`: the whole service on this machine, until Ctrl-C."""

import contextlib
import fcntl
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from rich.console import Console
from rich.text import Text

from cli.supervising.shard_processes import ShardProcesses
from cli.supervising.stage_messages import READY, StageMessages
from cli.supervising.supervised_kafka import SupervisedKafka
from cli.supervising.supervisor import Supervisor
from http_bridge.ports import check
from imagetools.errors import ConfigError, ImageRootUnavailable, PrerequisiteMissing
from imagetools.fingerprint.encoder import model_file
from imagetools.image_root import ImageRoot
from imagetools.scratch import sweep
from streams.config import DEFAULT_BOOTSTRAP, BridgeConfig, Config, KafkaConfig
from streams.embeddings_log import check_log
from streams.exit_codes import Failed
from streams.kafka.admin import create_topics, reach, shard_groups
from streams.kafka.pulse import Pulse
from streams.kafka.resharding import reshard
from streams.kafka.topic_limits import raise_limits
from streams.sharding.shards import Shard
from streams.watching.states import StateSender, StateStream

CHECK_EVERY_S = 0.5

LOCAL = "127.0.0.1:9092"
"""The address of the local Kafka at its default port."""


def up(
    data: Path,
    port: int,
    environ: Mapping[str, str],
    *,
    encoders: int = 1,
    matchers: int = 1,
    shards: int | None = None,
    replicas: int = 1,
    start_from: str | None = None,
) -> None:
    """Keep Kafka, the stages and the bridge running, with their data in `data`.

    shards      of the index; None: as many as there are
    replicas    search processes of each shard: one works, the others stand by
    start_from  earliest or latest, for a group that has lost its offsets
    ConfigError, PrerequisiteMissing or StageRefused if the user has to put something right first.
    Failed if Kafka dies repeatedly.
    """
    console = Console()
    config, bridge = Config.from_env(environ), BridgeConfig.from_env(environ)
    _check(config)
    sweep()
    data = data.resolve()
    stop = threading.Event()
    own: SupervisedKafka | None = None

    def asked_to_stop(*_: object) -> None:
        stop.set()
        if own is not None and own.starting:
            # nobody needs the Kafka that is being restarted
            raise KeyboardInterrupt

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, asked_to_stop)

    def say(text: str) -> None:
        console.print(Text(text, style="green" if text == READY else "yellow"), soft_wrap=True)

    def progress(text: str) -> None:
        console.print(Text(text + " …"))

    with contextlib.ExitStack() as stack:
        if not data.exists():
            # what cannot be leaves no folder behind
            check(bridge)
        # before the ports: a service that runs here has its own
        stack.enter_context(_alone_in(data))
        check(bridge)
        settings = {
            **environ,
            "INDEX_DIR": str(data / "index"),
            "FEATURES_DIR": str(data / "features"),
            "BRIDGE_DIR": str(data / "bridge"),
            "IMAGES_DIR": str(images.resolve() if isinstance(images := config.images_dir, Path) else images),
        }
        if not environ.get("KAFKA_BOOTSTRAP_SERVERS"):
            own = stack.enter_context(SupervisedKafka(data / "kafka", port, say, progress))
            settings["KAFKA_BOOTSTRAP_SERVERS"] = own.bootstrap
        kafka = reach(Config.from_env(settings).kafka)
        # a second log must exist; a typing error must not create one
        check_log(replace(config, kafka=kafka))
        count = _prepare_topics(kafka, shards, say)
        sender = StateSender(kafka)
        stack.callback(sender.close)
        supervisor = Supervisor(settings, data / "logs", tell=sender.send, options=_from(start_from))
        stack.callback(supervisor.stop)
        supervisor.start("encoder", encoders)
        searches = stack.enter_context(ShardProcesses(kafka, supervisor, count, replicas, say))
        for stage, processes in (("matcher", matchers), ("grouping", 1), ("bridge", 1)):
            supervisor.start(stage, processes)
        _greet(console, kafka, config, bridge, data)
        stack.enter_context(_lookouts(kafka, config, say))
        # the service works without them
        states = StateStream(kafka, on_error=lambda text: say(f"what the stages wait for cannot be read: {text}"))
        stack.callback(states.close)
        messages = StageMessages({member.name for member in supervisor.members if member.stage != "bridge"})
        try:
            while not stop.wait(CHECK_EVERY_S):
                if own is not None:
                    _keep_running(own, supervisor)
                searches.step()
                for text in (*filter(None, map(messages.take, states.read())), *supervisor.restart_dead()):
                    say(text)
        except KeyboardInterrupt:
            # no batch can be finished without Kafka
            supervisor.stop_s = 0.0
        console.print(Text("Stopping …"))


def _from(start_from: str | None) -> tuple[str, ...]:
    """Return the option of the stages for a group that has lost its offsets."""
    return ("--from", start_from) if start_from else ()


def _prepare_topics(kafka: KafkaConfig, shards: int | None, say: Callable[[str], None]) -> int:
    """Make the topics, and move the index to another number of shards where it has one; return the number."""
    present = shard_groups(kafka)
    count = shards or present.answering or max(present.counts, default=1)
    kafka = replace(kafka, shard=Shard(0, count))
    made = create_topics(kafka, only_new_groups=True)
    for sentence in raise_limits(kafka, made):
        say(sentence)
    if present.groups and present.answering != count:
        reshard(kafka, count)
        say(f"The index moves to {count} shards: each reads the log of fingerprints once")
    return count


def _greet(console: Console, kafka: KafkaConfig, config: Config, bridge: BridgeConfig, data: Path) -> None:
    """Say where everything is."""
    console.print(Text(f"Kafka at {kafka.bootstrap}, images in {config.images_dir}, logs in {data / 'logs'}"))
    console.print(Text(f"Page and HTTP at {bridge.address}", style="bold"))
    where = "" if kafka.bootstrap in (DEFAULT_BOOTSTRAP, LOCAL) else f"KAFKA_BOOTSTRAP_SERVERS={kafka.bootstrap} "
    words = f"Announce images with `{where}imagetools produce`, see alerts there or with `{where}imagetools watch`."
    console.print(Text(words), soft_wrap=True)
    console.print(Text("Ctrl-C stops it; started again, it goes on where it was."))


@contextlib.contextmanager
def _lookouts(kafka: KafkaConfig, config: Config, say: Callable[[str], None]) -> Iterator[None]:
    """Say when Kafka stops answering, and where the store of images lets nobody in."""
    _look_at_store(config, say)
    with Pulse(kafka, say):
        yield


def _look_at_store(config: Config, say: Callable[[str], None]) -> None:
    """Say where a store of images lets nobody in, before the first announcement shows it."""
    place = config.images_dir
    if isinstance(place, Path):
        return

    def look() -> None:
        try:
            ImageRoot(place, private=config.images_private).require()
        except ImageRootUnavailable as exc:
            say(f"{exc}. The service waits for it")

    # a store that is away answers late
    threading.Thread(target=look, name="store", daemon=True).start()


def _check(config: Config) -> None:
    """Check whatever can be checked before anything is started."""
    if isinstance(config.images_dir, Path) and not config.images_dir.is_dir():
        raise ConfigError(f"IMAGES_DIR is {config.images_dir}: no such folder; name yours with --images-dir")
    # what an address lacks; a store that is away is waited for
    ImageRoot(config.images_dir, private=config.images_private)
    model_file(config.models_name, config.models_dir)


def _keep_running(own: SupervisedKafka, supervisor: Supervisor) -> None:
    try:
        own.restart_if_dead()
    except Failed:
        # no batch can be finished without Kafka
        supervisor.stop_s = 0.0
        raise


@contextlib.contextmanager
def _alone_in(data: Path) -> Iterator[None]:
    """Create the folder and lock it; the system releases the lock even if this process is killed."""
    try:
        data.mkdir(parents=True, exist_ok=True)
        lock = (data / "up.lock").open("a")
    except OSError as exc:
        raise ConfigError(f"--data is {data}: {exc.strerror}") from exc
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as exc:
            raise PrerequisiteMissing(
                f"another `imagetools up` runs with its data in {data}: this service runs already; for one "
                "more, --data names another folder"
            ) from exc
        yield
