"""`imagetools decide`: a person's word on pairs of images, straight to the topic of decisions."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Final, NamedTuple

import click
from confluent_kafka import KafkaError, Message

from cli.announcing.announce import FLUSH_S, NotDelivered
from cli.announcing.sources import root_of
from cli.decision_file import WORDS, read_decisions
from cli.decisions import PairDecision
from cli.file_contents import FileContents
from cli.group_log import GroupLog, decisions_between, read_groups
from cli.groups import in_words
from imagetools.errors import ImageToolsError
from imagetools.grouping.records import Choice
from imagetools.image_root import ImageRoot
from imagetools.paths import shown
from schemas.codec import codec
from schemas.group_records import DecisionRecord, ImageContent, decision_id
from streams.config import KafkaConfig
from streams.kafka.clients import announcing_producer
from streams.topics import DECISIONS
from streams.watching.states import read_states

TOLD: Final = 10
"""Problems that an error names."""


class CannotDecide(ImageToolsError):
    """Nothing was decided; the message names each problem."""


@dataclass(frozen=True)
class Speaker:
    """Who decides, and how.

    keep      paths of the images to keep, with duplicate
    replace   also what others have said
    """

    who: str
    note: str = ""
    keep: tuple[str, ...] = ()
    replace: bool = False


class ServiceImages(NamedTuple):
    """Where the service's images are, as far as the settings say.

    place    IMAGES_DIR, if it is set
    private  IMAGES_PRIVATE
    """

    place: str | None
    private: bool = False


@dataclass(frozen=True)
class Word:
    """What is said of two images; record None: a decision is undone."""

    key: str
    images: tuple[ImageContent, ...]
    record: DecisionRecord | None
    speaker: Speaker


def decide_pair(
    kafka: KafkaConfig,
    left: str,
    right: str,
    word: str,
    speaker: Speaker,
    service: ServiceImages,
) -> None:
    """Say one of WORDS of two images. CannotDecide."""
    _decide(kafka, [PairDecision(left, right, WORDS[word], keep=speaker.keep)], speaker, service)


def decide_from(kafka: KafkaConfig, file: Path, speaker: Speaker, service: ServiceImages) -> None:
    """Take the decisions of a file, as `find --decisions` reads it. BadDecisions, CannotDecide.

    speaker  for lines that do not say who, or have no note
    """
    pairs = read_decisions(file)
    if not pairs:
        raise CannotDecide(f"{shown(str(file))} holds no decision")
    _decide(kafka, pairs, speaker, service)


def _decide(kafka: KafkaConfig, pairs: Sequence[PairDecision], speaker: Speaker, service: ServiceImages) -> None:
    """Send a decision for each pair, or none. CannotDecide."""
    log = read_groups(kafka)
    content_of = _contents(kafka, log, service)
    problems: list[str] = []
    records: list[Word] = []
    for pair in pairs:
        paths = pair.left, pair.right
        digests = pair.contents or (content_of(pair.left), content_of(pair.right))
        unknown = [path for path, digest in zip(paths, digests, strict=True) if not digest]
        if unknown:
            problems.append(f"{' and '.join(map(shown, unknown))}: in no group, and no file that can be read here")
            continue
        images = tuple(ImageContent(path, bytes.fromhex(d)) for path, d in zip(paths, digests, strict=True))
        word = _word(pair, images, replace(speaker, who=pair.who or speaker.who, keep=pair.keep))
        problems += _objections(log, word, pair.choice)
        records.append(word)
    if problems:
        more = [f"and {len(problems) - TOLD:,} more"] if len(problems) > TOLD else []
        raise CannotDecide("\n".join(["nothing was decided:", *problems[:TOLD], *more]))
    offsets = _send(kafka, records)
    click.echo(f"{len(records):,} {'decision' if len(records) == 1 else 'decisions'}", err=True)
    for one in overtaken(decisions_between(kafka, log.next_decision, max(offsets.values())), records, offsets):
        click.echo(f"said in the same moment, and replaced: {in_words(one)}", err=True)


def _word(pair: PairDecision, images: tuple[ImageContent, ...], speaker: Speaker) -> Word:
    key, note = decision_id(images), pair.note or speaker.note
    if pair.choice is None:
        return Word(key, images, None, speaker)
    record = DecisionRecord(key, pair.choice, images, speaker.keep, who=speaker.who, note=note)
    return Word(key, images, record if pair.when is None else replace(record, when=pair.when), speaker)


def _objections(log: GroupLog, word: Word, choice: Choice | None) -> list[str]:
    """Return why a decision is not sent: it would replace what somebody else has said, or undo nothing."""
    if choice is None and word.key not in log.decisions:
        return [f"{_names(word.images)}: there is no decision to undo"]
    touched = [log.decisions[word.key]] if choice is None else log.touching(word.images)
    others = [one for one in touched if _differs(one, choice, word.speaker)]
    return [f"{in_words(others[-1])}; --replace replaces that"] if others and not word.speaker.replace else []


def _differs(one: DecisionRecord, choice: Choice | None, speaker: Speaker) -> bool:
    """Return whether another person has said something else, such as another image to keep."""
    if one.who == speaker.who or one.decision is Choice.LATER:
        return False
    return one.decision is not choice or set(one.keep) != set(speaker.keep)


def overtaken(
    between: Iterable[tuple[int, DecisionRecord]], words: Iterable[Word], offsets: Mapping[str, int]
) -> list[DecisionRecord]:
    """Return the decisions of others that nobody had read when these were sent, and that hold no more.

    between  decisions with their offsets
    offsets  of the words, by key
    """
    return [
        one
        for offset, one in between
        if any(
            offset < offsets[word.key]
            and len(set(one.images).intersection(word.images)) >= 2
            and _differs(one, word.record.decision if word.record else None, word.speaker)
            for word in words
        )
    ]


def _names(images: Iterable[ImageContent]) -> str:
    return " and ".join(shown(one.relative_path) for one in images)


def _contents(kafka: KafkaConfig, log: GroupLog, service: ServiceImages) -> Callable[[str], str]:
    """Return a function that gives an image's content in hex: as the topics have it, or else its file's."""
    known = log.contents()

    @cache
    def files() -> FileContents | None:
        root = root_of(service.place, read_states(kafka))
        return None if root is None else FileContents(ImageRoot(root, private=service.private))

    def content_of(path: str) -> str:
        if path in known:
            return known[path].hex()
        found = files()
        return "" if found is None else found.of(path)

    return content_of


def _send(kafka: KafkaConfig, words: Sequence[Word]) -> dict[str, int]:
    """Send decisions; return their offsets by key. NotDelivered."""
    topic, encode = kafka.topic(DECISIONS.name), codec(kafka.registry).encode
    failed: list[str] = []
    offsets: dict[str, int] = {}

    def delivered(error: KafkaError | None, message: Message) -> None:
        if error is not None:
            failed.append(error.str())
        else:
            offsets[(message.key() or b"").decode()] = message.offset() or 0

    producer = announcing_producer(kafka)
    for word in words:
        value = None if word.record is None else encode(topic, word.record)
        headers: list[tuple[str, str | bytes | None]] = []
        if word.record is None:
            headers.append(("who", word.speaker.who.encode()))
        while True:
            try:
                producer.produce(topic, value, word.key.encode(), headers=headers, on_delivery=delivered)
                break
            except BufferError:
                producer.poll(0.1)
    left = producer.flush(FLUSH_S)
    if failed or left:
        raise NotDelivered(failed[0] if failed else f"{left} decisions were not taken within {FLUSH_S:.0f} s")
    return offsets
