"""The whole service on this machine, until Ctrl-C."""

import contextlib
import signal
import threading
from collections.abc import Mapping
from pathlib import Path

from rich.console import Console
from rich.text import Text

from cli.supervisor import StageFailed, Supervisor
from imagetools.errors import ConfigError, PrerequisiteMissing
from imagetools.scratch import sweep
from streams.config import BridgeConfig, Config
from streams.follow import reach
from streams.local_kafka import LocalKafka
from streams.topics import create

TEND_S = 0.5


def up(data: Path, port: int, environ: Mapping[str, str], *, encoders: int = 1, matchers: int = 1) -> None:
    """Keep Kafka, the stages and the bridge running; what they know stays in `data`.

    ConfigError where IMAGES_DIR is no folder; PrerequisiteMissing where a stage says that a restart is no use.
    """
    console = Console()
    config, bridge = Config.from_env(environ), BridgeConfig.from_env(environ)
    if not config.images_dir.is_dir():
        raise ConfigError(f"IMAGES_DIR is {config.images_dir}: no such folder; name yours with --images-dir")
    sweep()
    data = data.resolve()
    data.mkdir(parents=True, exist_ok=True)
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    with contextlib.ExitStack() as stack:
        settings = {
            **environ,
            "INDEX_DIR": str(data / "index"),
            "FEATURES_DIR": str(data / "features"),
            "BRIDGE_DIR": str(data / "bridge"),
            "IMAGES_DIR": str(config.images_dir.resolve()),
        }
        if not environ.get("KAFKA_BOOTSTRAP_SERVERS"):
            running = LocalKafka.start(
                data / "kafka", port=port, progress=lambda text: console.print(Text(text + " …"))
            )
            stack.callback(running.stop)
            settings["KAFKA_BOOTSTRAP_SERVERS"] = running.bootstrap
        kafka = reach(Config.from_env(settings).kafka)
        create(kafka)
        supervisor = Supervisor(settings, data / "logs")
        stack.callback(supervisor.stop)
        for stage, count in (("encoder", encoders), ("search", 1), ("matcher", matchers), ("bridge", 1)):
            supervisor.start(stage, count)
        console.print(Text(f"Kafka at {kafka.bootstrap}, images in {config.images_dir}, logs in {data / 'logs'}"))
        console.print(Text(f"Page and HTTP at {bridge.address}", style="bold"))
        console.print(Text("Announce images with `imagetools produce`, see alerts there or with `imagetools watch`."))
        console.print(Text("Ctrl-C stops it; started again, it goes on where it was."))
        while not stop.wait(TEND_S):
            try:
                for news in supervisor.tend():
                    console.print(Text(news, style="yellow"))
            except StageFailed as exc:
                raise PrerequisiteMissing(str(exc)) from exc
        console.print(Text("Stopping …"))
