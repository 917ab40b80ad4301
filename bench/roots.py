"""What images in a store cost the encoder, beside the same images in a folder.

Fingerprints the same photos from a folder, from an S3 server on this machine, and from it with a delay before each
request, in turns. The server takes cores away, too: its share shows in the images a second, not in the CPU time, which
is that of the encoder's process.

    python -m bench.roots
    python -m bench.roots --photos FOLDER --images 600 --delay 0.1
    python -m bench.roots --job    # `imagetools find` as a whole, start-up included
"""

import os
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from itertools import islice
from pathlib import Path

import click
from rich.console import Console

from bench.pairs import SAMPLES, SHARED
from cli.find import find
from imagetools.features.config import FeatureConfig
from imagetools.fingerprint.encoder import Encoder
from imagetools.folder import find_images
from imagetools.image_root import ImageRoot
from schemas.records import ImageNew
from streams.encoder_consumer import EncoderStage
from streams.encoding import readers_of
from streams.service import keep_freed_memory
from streams.stage import Received
from tests.support.breaking_proxy import BreakingProxy
from tests.support.object_store import Bucket, ObjectServer

ROUNDS = 3


@contextmanager
def found_at(endpoint: str, bucket: Bucket) -> Iterator[ImageRoot]:
    """Make the root of a bucket at an endpoint, by the variables that users set."""
    os.environ |= bucket.environ | {"AWS_ENDPOINT_URL": endpoint}
    yield ImageRoot(bucket.address)


def taken(stage: EncoderStage, batch: list[Received[ImageNew]]) -> tuple[float, float]:
    """Return wall and CPU seconds of all images."""
    wall, cpu = time.perf_counter(), time.process_time()
    for start in range(0, len(batch), stage.batch_size):
        outcomes = stage.run(batch[start : start + stage.batch_size])
        failed = [outcome for outcome in outcomes if isinstance(outcome, Exception)]
        assert not failed, failed
    return time.perf_counter() - wall, time.process_time() - cpu


@click.command()
@click.option("--photos", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--images", default=320, show_default=True)
@click.option("--delay", default=0.03, show_default=True, help="Seconds before each request to the slow store.")
@click.option("--job", is_flag=True, help="Time `imagetools find` instead.")
def main(photos: Path | None, images: int, delay: float, job: bool) -> None:
    keep_freed_memory()
    folder = photos or (SHARED if SHARED.is_dir() else SAMPLES)
    paths = list(islice(find_images(folder), images))
    with ObjectServer() as server, BreakingProxy(server.endpoint) as proxy:
        bucket = server.bucket()
        proxy.delay_s = delay
        for path in paths:
            bucket.put_as(path, (folder / path).read_bytes())
        if job:
            time_jobs(bucket, proxy.endpoint, f"store, {1000 * delay:.0f} ms away", len(paths))
            return
        with found_at(server.endpoint, bucket) as near, found_at(proxy.endpoint, bucket) as far:
            roots = {"folder": ImageRoot(folder), "store": near, f"store, {1000 * delay:.0f} ms away": far}
            compare(roots, [Received(path, ImageNew(1, path), 0, n, 0) for n, path in enumerate(paths)])


def compare(roots: dict[str, ImageRoot], batch: list[Received[ImageNew]]) -> None:
    encoder, best = Encoder.load(), dict.fromkeys(roots, (float("inf"), float("inf")))
    for turn in range(ROUNDS + 1):
        for name, root in roots.items():
            with closing(EncoderStage(encoder, root, features=FeatureConfig())) as stage:
                wall, cpu = taken(stage, batch if turn else batch[: stage.batch_size])
            # the first turn warms everything up
            if turn:
                best[name] = min(wall, best[name][0]), min(cpu, best[name][1])
    size = len(batch)
    wall, cpu = best["folder"]
    print(f"{size} images, the best of {ROUNDS} turns")
    print(f"{'':24}{'images/s':>10}{'':>8}{'CPU ms':>10}{'':>8}{'readers':>10}")
    for name, (one_wall, one_cpu) in best.items():
        print(
            f"{name:24}{size / one_wall:>10.1f}{wall / one_wall:>8.2f}{1000 * one_cpu / size:>10.2f}"
            f"{one_cpu / cpu:>8.2f}{readers_of(roots[name]):>10}"
        )


def time_jobs(bucket: Bucket, far: str, far_name: str, images: int) -> None:
    """Print how long `find` takes over the bucket's files, the bucket, and the bucket at another endpoint."""
    places: dict[str, tuple[Path | str, str]] = {
        "folder": (bucket.folder, ""),
        "store": (bucket.address, bucket.endpoint),
        far_name: (bucket.address, far),
    }
    best = dict.fromkeys(places, float("inf"))
    for _ in range(ROUNDS - 1):
        for name, (place, endpoint) in places.items():
            os.environ |= bucket.environ | {"AWS_ENDPOINT_URL": endpoint}
            began = time.perf_counter()
            find(place, None, console=Console(quiet=True))
            best[name] = min(best[name], time.perf_counter() - began)
    print(f"`imagetools find` over {images} images, start-up included, the best of {ROUNDS - 1}")
    for name, took in best.items():
        print(f"{name:24}{took:>8.1f} s{took / best['folder']:>8.2f}")


if __name__ == "__main__":
    main()
