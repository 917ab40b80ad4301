"""Commands that make a model: train, quantize."""

import signal
from pathlib import Path
from typing import Any

import click

from cli.commands.options import OutputPath
from imagetools.fingerprint.config import DEFAULT_INPUT_SIZE
from training.config import TrainConfig


@click.command()
@click.argument("folder", metavar="DIR", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--out", required=True, type=OutputPath(dir_okay=False), help="The model file to write.")
@click.option(
    "--minutes",
    default=TrainConfig.minutes,
    show_default=True,
    type=click.FloatRange(0, min_open=True),
    help="Time to train for.",
)
@click.option("--steps", type=click.IntRange(0), help="Train for this many steps; 0: fit a new projection only.")
@click.option(
    "--from", "model", type=click.Path(path_type=Path), help="Start from this model.  [default: the package's]"
)
@click.option("--teacher", type=click.Path(path_type=Path), help="Learn from this model's fingerprints, too.")
@click.option(
    "--size",
    default=TrainConfig.size,
    show_default=True,
    type=click.IntRange(32, 512),
    help="Side of a training image, pixels.",
)
@click.option("--batch", default=TrainConfig.batch, show_default=True, type=click.IntRange(4), help="Photos in a step.")
@click.option(
    "--rate",
    default=TrainConfig.rate,
    show_default=True,
    type=click.FloatRange(0, 0.1, min_open=True),
    help="Learning rate.",
)
@click.option("--exclude", multiple=True, metavar="PREFIX", help="Leave out paths in DIR that begin with this.")
@click.option(
    "--seed", default=TrainConfig.seed, show_default=True, help="The same seed and steps give the same model."
)
@click.option("--measure/--no-measure", default=True, help="Measure retrieval on held-out photos, before and after.")
@click.option("--resume", is_flag=True, help="Continue a run that was interrupted or killed.")
def train(
    folder: Path, out: Path, model: Path | None, teacher: Path | None, exclude: tuple[str, ...], measure: bool,
    resume: bool, **numbers: Any,
) -> None:  # fmt: skip
    """Adapt the fingerprint to the photos in DIR, and write a model file for MODELS_NAME.

    Needs no labels: the network learns to tell edited copies of a photo from all other photos. A tenth of the photos,
    at most a hundred, is held out for measuring. Beside the file, NAME.training holds the run: a checkpoint, the log
    and its plot, and the paths of the held-out photos. Ctrl-C leaves a checkpoint.
    """
    from cli.commands.processes import shorten_spinning

    shorten_spinning()
    from cli.train import TrainOptions, stop_kept
    from cli.train import train as run

    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        run(TrainOptions(folder, out, model, teacher, exclude, resume, measure), TrainConfig(**numbers))
    except KeyboardInterrupt:
        stop_kept(out)
        raise


@click.command()
@click.argument("folder", metavar="DIR", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--out", required=True, type=OutputPath(dir_okay=False), help="The .onnx file to write.")
@click.option("--from", "model", type=click.Path(path_type=Path), help="Quantize this model.  [default: the package's]")
@click.option(
    "--size",
    default=DEFAULT_INPUT_SIZE,
    show_default=True,
    type=click.IntRange(32, 512),
    help="Side of the model's input, pixels.",
)
@click.option("--exclude", multiple=True, metavar="PREFIX", help="Leave out paths in DIR that begin with this.")
@click.option("--seed", default=0, show_default=True, help="The same seed and photos give the same model.")
@click.option("--measure/--no-measure", default=True, help="Measure retrieval on held-out photos, before and after.")
def quantize(
    folder: Path, out: Path, model: Path | None, size: int, exclude: tuple[str, ...], seed: int, measure: bool
) -> None:
    """Write a model that computes in 8-bit integers, for MODELS_NAME, calibrated on the photos in DIR.

    Then compares its speed on this machine with that of the original model, and how many edited copies of held-out
    photos find their original with either. It is another model: `imagetools reencode` moves a collection to it. Needs
    pip install -e '.[int8]' in the clone; running the model does not.
    """
    from cli.quantize import QuantizeOptions
    from cli.quantize import quantize as run

    run(QuantizeOptions(folder, out, model, exclude, size, measure, seed))
