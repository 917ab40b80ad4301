"""The grouping stage's state: how fast it is read again from its facts, and how much memory it takes.

    python -m bench.grouping_state [--pairs NUMBER] [--copies NUMBER] [--metadata]

The images and pairs are those of bench.groups. The facts are Avro as on the topic `grouping.state`; fetching them from
Kafka is not in the times.
"""

import hashlib
import random
import resource
import time
from collections.abc import Iterator

import click
from rich.console import Console
from rich.table import Table

from bench.groups import contradict, log
from imagetools.grouping.records import Edge, ImageKey, Placed
from imagetools.grouping.relations import Relation
from schemas.codec import codec
from schemas.group_records import FactKind, GroupingFact, ImageContent
from streams.grouping.state import GroupingState

TOPIC = "grouping.state"


def facts(pairs: int, copies: int, known_as: dict[str, ImageKey], *, metadata: bool) -> Iterator[tuple[str, bytes]]:
    """Yield keys and values as on the topic.

    known_as  is filled: the image of bench.groups by the content that stands for it
    metadata  give every image two names and values
    """
    encode = codec().encode
    images = dict[ImageKey, ImageContent]()
    for change in log(pairs, copies, random.Random(0)):
        if isinstance(change, Placed):
            key = ImageKey(change.path, change.content)
            content = hashlib.sha256(change.content.encode()).digest()
            images[key], known_as[content.hex()] = ImageContent(change.path, content), key
            said = {"sku": f"{change.place:08}", "shop": f"shop {change.place % 1000}"} if metadata else {}
            fact = GroupingFact(change.path, FactKind.IMAGE, (images[key],), change.place, 1, 1, metadata=said)
        elif isinstance(change, Edge):
            left, right = sorted((images[change.left], images[change.right]))
            name = "\0e" + hashlib.sha256(repr((left, right)).encode()).hexdigest()
            framed = (False, False)
            fact = GroupingFact(
                name, FactKind.EDGE, (left, right), relation=change.relation, score=change.score, framed=framed
            )
        else:
            continue
        yield fact.id, encode(TOPIC, fact)


@click.command()
@click.option("--pairs", default=1_000_000, show_default=True, type=click.IntRange(1), help="Pairs to read.")
@click.option("--copies", default=5000, show_default=True, type=click.IntRange(1), help="Copies of a picture, at most.")
@click.option("--metadata", is_flag=True, help="Every image has two names and values.")
def main(pairs: int, copies: int, metadata: bool) -> None:
    """Read a state from facts, and print times and memory."""
    known_as = dict[str, ImageKey]()
    written = list(facts(pairs, copies, known_as, metadata=metadata))
    decode = codec().decode
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    compared = 0

    def compare(left: ImageKey, right: ImageKey) -> Relation:
        nonlocal compared
        compared += 1
        return contradict(known_as[left.content], known_as[right.content])

    state = GroupingState(compare)
    began = time.process_time()
    for key, value in written:
        state.load(key, decode(TOPIC, GroupingFact, value))
    loaded = time.process_time()
    steps = sum(1 for _ in state.divide())
    divided = time.process_time()
    table = Table("facts", "images", "bytes a fact", "reading, CPU s", "dividing, CPU s", "steps", "MiB more at most")
    size = sum(len(value) for _, value in written) / len(written)
    more = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024
    table.add_row(
        f"{len(written):,}", f"{len(state.images):,}", f"{size:.0f}", f"{loaded - began:.1f}",
        f"{divided - loaded:.1f}", f"{steps:,}", f"{more:,}",
    )  # fmt: skip
    console = Console(width=120)
    console.print(table)
    console.print(f"pairs that had to be compared, as no answer of theirs is among these facts: {compared:,}")


if __name__ == "__main__":
    main()
