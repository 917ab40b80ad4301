"""Options that several commands share; those that mirror a setting come from the table of settings."""

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import click

from imagetools.places import is_address, parse_place
from streams import settings
from streams.settings import Reader, Setting

Function = TypeVar("Function", bound=Callable[..., Any])

DATA_FOLDER = Path("imagetools-data")

KAFKA = (
    settings.KAFKA_BOOTSTRAP_SERVERS,
    settings.TOPIC_PREFIX,
    settings.SCHEMA_REGISTRY_URL,
    settings.EMBEDDINGS_TOPIC,
    settings.KAFKA_GROUP_PROTOCOL,
)
MODEL = (settings.MODELS_DIR, settings.MODELS_NAME, settings.ENCODER_ENGINE, settings.ENCODER_THREADS)
SEARCH = (
    settings.NB_NEIGHBORS,
    settings.NB_LOCAL,
    settings.NB_PLAIN,
    settings.DISTANCE_TYPE,
    settings.INDEX_ENGINE,
    settings.DIMENSION,
    settings.BATCH_SIZE,
)
MATCHER = (
    settings.THRESHOLD,
    settings.ALERT_RECOLOURED,
    settings.ALERT_MOVED,
    settings.WIDTH,
    settings.HEIGHT,
    settings.NB_WORKERS,
)
GROUPING = (settings.KEEP_ORDER,)
WATCHING = (settings.METRICS_PORT, settings.METRICS_HOST, settings.LOG_FORMAT)
BRIDGE = tuple(
    row
    for row in settings.SETTINGS
    if row.readers == (Reader.BRIDGE,) and not row.environment_only and row is not settings.BRIDGE_DIR
)
JOB_FEATURES = (
    replace(settings.FEATURES_DIR, without="a temporary folder, removed at the end"),
    settings.FEATURES_MB,
)
OWN_KAFKA = replace(settings.KAFKA_BOOTSTRAP_SERVERS, without="a Kafka of its own")
SERVICE_IMAGES = replace(
    settings.IMAGES_DIR,
    help="The folder of images that the service reads.",
    without="that of the encoder on this machine",
)


class OutputPath(click.Path):
    """A path to write to. An empty one is refused: it would be the current folder."""

    def __init__(self, **options: Any) -> None:
        super().__init__(path_type=Path, **options)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Refuse an empty path."""
        if value == "":
            self.fail("an empty path names nothing", param, ctx)
        return super().convert(value, param, ctx)


class ImagesPlace(click.Path):
    """A folder, or a file, that is there; or an address in a store."""

    def __init__(self, *, file_okay: bool = False, dir_okay: bool = True) -> None:
        super().__init__(exists=True, file_okay=file_okay, dir_okay=dir_okay, path_type=Path)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return a Path, or an address as text."""
        try:
            place = parse_place(value) if isinstance(value, str) else value
        except ValueError as exc:
            self.fail(f"{value}: {exc}", param, ctx)
        return place if is_address(place) else super().convert(value, param, ctx)


start_from = click.option(
    "--from",
    "start_from",
    type=click.Choice(["earliest", "latest"]),
    help="Where to start if the group has lost its offsets; earliest repeats every alert.",
)
stop_with_stdin = click.option("--stop-with-stdin", is_flag=True, help="Stop when the standard input ends.")
matchers = click.option(
    "--matchers", default=1, show_default=True, type=click.IntRange(1), help="Number of matcher processes."
)


def of_reader(reader: Reader) -> tuple[Setting[Any], ...]:
    """The settings of one process that have an option."""
    return tuple(setting for setting in settings.read_by(reader) if not setting.environment_only)


def setting_options(*rows: Setting[Any]) -> Callable[[Function], Function]:
    """Add an option for each setting; the command gets `environ`: the environment, overridden by the options."""

    def decorate(function: Function) -> Function:
        def run(**options: Any) -> Any:
            given = {row.name: options.pop(row.name.lower()) for row in rows}
            chosen = {name: text for name, text in given.items() if text is not None}
            return function(environ={**os.environ, **chosen}, **options)

        run.__name__, run.__doc__ = function.__name__, function.__doc__
        run.__click_params__ = list(getattr(function, "__click_params__", []))  # type: ignore[attr-defined]
        for row in reversed(rows):
            run = click.option(
                "--" + row.name.lower().replace("_", "-"),
                row.name.lower(),
                default=None,
                metavar="VALUE",
                help=f"{row.help}  [default: {row.default_text}] [{row.name}]",
            )(run)
        return run  # type: ignore[return-value]

    return decorate
