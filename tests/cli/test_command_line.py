"""The command line as a newcomer meets it: help for everything, and one line that says what is missing."""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image, ImageOps

from bench.documents import document
from cli.main import main
from local_kafka.ports import free_ports
from streams.topics import IMAGES_NEW
from tests.support.streaming import Reader, scene


def commands(group: click.Group = main, *path: str) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    for name, command in group.commands.items():
        yield (*path, name), command
        if isinstance(command, click.Group):
            yield from commands(command, *path, name)


def run(*words: str | Path, code: int = 0) -> Result:
    result = CliRunner().invoke(main, [str(word) for word in words])
    assert result.exit_code == code, result.output
    return result


@pytest.mark.parametrize("path", [path for path, _ in commands()], ids=" ".join)
def test_every_command_and_every_option_explains_itself(path):
    command = dict(commands())[path]
    assert command.help
    assert all(param.help for param in command.params if isinstance(param, click.Option)), path
    assert command.help.split("\n")[0] in " ".join(run(*path, "--help").output.split())


def test_the_named_commands_are_there():
    named = {
        "demo",
        "find",
        "up",
        "produce",
        "watch",
        "status",
        "compare",
        "encoder",
        "search",
        "matcher",
        "grouping",
        "bridge",
    }
    there = {" ".join(path) for path, _ in commands()}
    assert named | {"kafka start", "kafka stop", "topics create"} <= there


def test_the_package_runs_as_a_module():
    help_text = subprocess.run(
        [sys.executable, "-m", "imagetools", "--help"], check=True, capture_output=True, text=True
    ).stdout
    assert "imagetools find DIR" in help_text


def no_broker() -> str:
    return f"127.0.0.1:{free_ports(1)[0]}"


@pytest.mark.parametrize("command", [("status",), ("watch",), ("topics", "create"), ("produce", "-")], ids=" ".join)
def test_a_broker_that_is_not_there_is_named_with_the_way_to_get_one(command):
    address = no_broker()
    output = run(*command, "--kafka-bootstrap-servers", address, code=2).output
    assert address in output
    assert "imagetools up" in output
    assert "Traceback" not in output


def test_topics_that_are_not_there_are_named_with_the_way_to_get_them(bootstrap):
    output = run("status", "--kafka-bootstrap-servers", bootstrap, "--topic-prefix", "nobody-made.", code=2).output
    assert "nobody-made." in output
    assert "imagetools topics create" in output


def test_topics_are_created_once(bootstrap, kafka):
    # the fixture has made them
    words = ("topics", "create", "--kafka-bootstrap-servers", bootstrap, "--topic-prefix", kafka.prefix)
    assert "all there" in run(*words).output


def test_a_wrong_setting_is_named_with_what_it_can_be():
    output = run("encoder", "--kafka-group-protocol", "modern", code=2).output
    assert "KAFKA_GROUP_PROTOCOL" in output
    assert "modern" in output
    assert "classic" in output


def test_a_folder_without_images_is_named(tmp_path):
    (tmp_path / "notes.txt").write_text("no image")
    output = run("find", tmp_path, code=2).output
    assert str(tmp_path) in output.replace("\n", "")
    assert "no image" in output


def test_up_names_the_missing_folder_of_images(tmp_path):
    output = run("up", "--data", tmp_path / "data", "--images-dir", tmp_path / "nowhere", code=2).output
    assert "nowhere" in output
    assert "--images-dir" in output


def test_compare_says_what_was_done_to_a_copy_and_draws_it(tmp_path):
    original = scene(7, (400, 300))
    original.save(tmp_path / "original.png")
    ImageOps.mirror(original).resize((200, 150)).save(tmp_path / "copy.jpg", quality=80)
    output = run("compare", tmp_path / "copy.jpg", tmp_path / "original.png", "--picture", tmp_path / "pair.png").output
    assert "duplicate" in output
    assert "mirrored" in output
    assert "resized to 50 %" in output
    assert (tmp_path / "pair.png").stat().st_size > 1000


def test_compare_tells_two_pictures_apart(tmp_path):
    for seed in (1, 2):
        scene(seed).save(tmp_path / f"{seed}.png")
    output = squeezed(run("compare", tmp_path / "1.png", tmp_path / "2.png").output)
    assert "no duplicate" in output
    assert "why what they have in common lies in different places" in output


def squeezed(output: str) -> str:
    """The words of a table, without its rules and line breaks."""
    return " ".join(output.replace("│", " ").split())


def test_compare_names_and_outlines_what_differs_in_one_template(tmp_path):
    pages = {"a.png": document("form", 2, 2), "b.png": document("form", 2, 3)}
    for name, page in pages.items():
        page.save(tmp_path / name)
    picture = tmp_path / "pair.png"
    output = squeezed(run("compare", tmp_path / "a.png", tmp_path / "b.png", "--picture", picture).output)
    assert "no duplicate: score 0.01" in output
    assert "relation same template, other content" in output
    assert re.search(r"why same template, other content at 1\d places", output)
    assert re.search(r"differs at \d+–\d+ % across, \d+–\d+ % down of both", output)
    with Image.open(picture) as drawn:
        blue = (np.asarray(drawn.convert("RGB")) == (0, 122, 255)).all(axis=2)
    middle = blue.shape[1] // 2
    assert min(blue[:, :middle].sum(), blue[:, middle:].sum()) > 200


def test_compare_says_which_of_the_two_contains_the_other(tmp_path):
    whole = scene(7, (640, 480))
    whole.save(tmp_path / "whole.png")
    whole.crop((100, 80, 500, 400)).save(tmp_path / "part.png")
    said = squeezed(run("compare", tmp_path / "part.png", tmp_path / "whole.png").output)
    assert "one shows a part of the other: B contains A" in said
    said = squeezed(run("compare", tmp_path / "whole.png", tmp_path / "part.png").output)
    assert "one shows a part of the other: A contains B" in said


def test_compare_knows_the_same_bytes(tmp_path):
    scene(7).save(tmp_path / "a.png")
    (tmp_path / "b.png").write_bytes((tmp_path / "a.png").read_bytes())
    assert "edit the same bytes" in squeezed(run("compare", tmp_path / "a.png", tmp_path / "b.png").output)


def test_compare_names_a_file_that_is_no_image(tmp_path):
    (tmp_path / "text.jpg").write_text("text")
    scene(1).save(tmp_path / "good.png")
    output = run("compare", tmp_path / "good.png", tmp_path / "text.jpg", code=2).output
    assert "text.jpg" in output
    assert "not an image" in output


def test_produce_announces_and_removes_by_lines_of_paths(bootstrap, kafka, tmp_path):
    (tmp_path / "folder").mkdir()
    for name in ("a.jpg", "folder/b c.png"):
        scene(1).save(tmp_path / name)
    (tmp_path / "list.txt").write_text("a.jpg\nfolder/b c.png\n", "utf-8")
    words = ("--images-dir", tmp_path, "--kafka-bootstrap-servers", bootstrap, "--topic-prefix", kafka.prefix)
    assert "2 images announced" in run("produce", tmp_path / "list.txt", "--no-alert", *words).output
    reader = Reader(kafka, IMAGES_NEW).settled()
    announced = list(reader.seen["images.new"])
    assert sorted(record.relative_path for record in announced) == ["a.jpg", "folder/b c.png"]
    assert not any(record.alert for record in announced)
    assert "2 images announced as gone" in run("produce", tmp_path / "list.txt", "--remove", *words).output
    reader.settled()
    assert reader.seen["images.new"][2:] == [None, None]
    partitions: dict[bytes, set[int]] = {}
    for message in reader.messages["images.new"]:
        partitions.setdefault(message.key(), set()).add(message.partition())
    assert {key: len(numbers) for key, numbers in partitions.items()} == {b"a.jpg": 1, b"folder/b c.png": 1}
    reader.close()


def test_produce_makes_paths_relative_to_the_root(bootstrap, kafka, tmp_path):
    folder = tmp_path / "root" / "shop"
    folder.mkdir(parents=True)
    scene(1).save(folder / "one.png")
    words = ("--images-dir", tmp_path / "root", "--kafka-bootstrap-servers", bootstrap, "--topic-prefix", kafka.prefix)
    run("produce", folder, *words)
    run("produce", folder / "one.png", *words)
    reader = Reader(kafka, IMAGES_NEW).settled()
    assert [record.relative_path for record in reader.seen["images.new"]] == ["shop/one.png", "shop/one.png"]
    assert all(record.alert for record in reader.seen["images.new"])
    reader.close()


def test_produce_names_what_is_not_there(bootstrap, kafka, tmp_path):
    words = ("--kafka-bootstrap-servers", bootstrap, "--topic-prefix", kafka.prefix)
    assert "nowhere.jpg" in run("produce", tmp_path / "nowhere.jpg", *words, code=2).output.replace("\n", "")
