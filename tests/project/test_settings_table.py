"""The environment, the command line and docs/deploy.md follow one table of settings."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest

from cli.main import main
from imagetools.errors import ConfigError
from streams.config import BridgeConfig, Config
from streams.settings import SETTINGS, STAGES, Reader, Setting, read_by
from tests.cli.test_command_line import commands

ROOT = Path(__file__).resolve().parents[2]
ROWS = {setting.name: setting for setting in SETTINGS}
each = pytest.mark.parametrize("setting", SETTINGS, ids=lambda setting: setting.name)


class NotingEnvironment(dict[str, str]):
    """An environment that notes which variables were read."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: set[str] = set()

    def get(self, name: str, default: Any = None) -> Any:
        self.asked.add(name)
        return super().get(name, default)


def fields(config: object) -> Iterator[object]:
    for value in vars(config).values():
        yield value
        if hasattr(value, "__dataclass_fields__"):
            yield from fields(value)


def options() -> Iterator[tuple[str, click.Option, Setting[Any]]]:
    for path, command in commands(main):
        for param in command.params:
            setting = ROWS.get((param.name or "").upper())
            if isinstance(param, click.Option) and setting is not None:
                yield " ".join(path), param, setting


OPTIONS = list(options())


def test_each_process_reads_its_own_rows_and_nothing_else() -> None:
    stages, bridge = NotingEnvironment(), NotingEnvironment()
    Config.from_env(stages)
    BridgeConfig.from_env(bridge)
    assert stages.asked == {setting.name for setting in read_by(*STAGES)}
    assert bridge.asked - {"MEMBER_NAME", "MEMBER_RESTARTS", "SHARD"} == {s.name for s in read_by(Reader.BRIDGE)}


@each
def test_a_config_has_the_default_of_the_table(setting: Setting[Any]) -> None:
    values = [*fields(Config()), *fields(BridgeConfig())]
    assert setting.default in values
    assert setting.read({}) == setting.read({setting.name: ""}) == setting.default


@each
def test_a_default_can_also_be_spelled_out(setting: Setting[Any]) -> None:
    if setting.default is not None:
        text = ",".join(setting.default) if isinstance(setting.default, tuple) else str(setting.default)
        assert setting.read({setting.name: text}) == setting.default


@pytest.mark.parametrize(("command", "option", "setting"), OPTIONS, ids=[f"{c} {o.name}" for c, o, _ in OPTIONS])
def test_an_option_is_named_after_its_row_and_shows_its_help_and_default(
    command: str, option: click.Option, setting: Setting[Any]
) -> None:
    assert option.opts == ["--" + setting.name.lower().replace("_", "-")]
    assert option.default is None
    assert not setting.environment_only
    assert f"[{setting.name}]" in str(option.help)
    own_words = {
        "produce": {"IMAGES_DIR"},
        "decide": {"IMAGES_DIR"},
        "up": {"KAFKA_BOOTSTRAP_SERVERS"},
        "find": {"FEATURES_DIR"},
    }
    if setting.name not in own_words.get(command, set()):
        assert option.help == f"{setting.help}  [default: {setting.default_text}] [{setting.name}]"


@pytest.mark.parametrize("reader", [*STAGES, Reader.BRIDGE])
def test_the_command_of_a_process_has_an_option_for_each_setting_that_it_reads(reader: Reader) -> None:
    offered = {setting.name for command, _, setting in OPTIONS if command == reader}
    assert offered == {setting.name for setting in read_by(reader) if not setting.environment_only}


def test_the_page_on_deployment_has_the_table() -> None:
    def row(setting: Setting[Any]) -> str:
        readers = "all" if set(setting.readers) == set(Reader) else ", ".join(setting.readers)
        return f"| `{setting.name}` | {setting.help} | {setting.default_text} | {readers} |"

    section = (ROOT / "docs" / "deploy.md").read_text("utf-8").partition("\n## Settings\n")[2].partition("\n## ")[0]
    wanted = [row(setting) for setting in SETTINGS]
    found = [line for line in section.splitlines() if re.match(r"\| `[A-Z_]+` \|", line)]
    assert found == wanted, "docs/deploy.md needs this table:\n" + "\n".join(wanted)
    for setting in SETTINGS:
        assert (f"`{setting.name}`" in section.partition("\n|")[0]) == (
            setting.environment_only or setting.name == "IMAGES_DIR"
        )


ABSURD = {
    "WIDTH": "100000", "HEIGHT": "100000", "NB_WORKERS": "1000000", "ENCODER_THREADS": "1000000",
    "NB_NEIGHBORS": "1000000", "NB_LOCAL": "1000000", "NB_PLAIN": "1000000", "DIMENSION": "1000000",
    "BATCH_SIZE": "1000000000", "FEATURES_MB": "1000000000",
    "DEAD_LETTER_LIMIT": "9" * 30, "MEMBER_RESTARTS": "9" * 30, "BRIDGE_IN_FLIGHT": "1000000",
    "BRIDGE_BODIES": "1000000",
}  # fmt: skip


@pytest.mark.parametrize("name", ABSURD)
def test_an_absurd_number_is_refused_at_start(name: str) -> None:
    with pytest.raises(ConfigError, match=f"{name} is .*: at most [0-9,]+ is possible"):
        ROWS[name].read({name: ABSURD[name]})


def test_every_number_has_a_bound() -> None:
    numbers = {s.name for s in SETTINGS if isinstance(s.default, int | float) and not isinstance(s.default, bool)}
    assert numbers - {"THRESHOLD", "BRIDGE_TIMEOUT_S", "BRIDGE_BODY_TIMEOUT_S"} <= set(ABSURD)


def test_a_secret_is_not_shown() -> None:
    def refuse(_text: str) -> str:
        raise ValueError("no")

    with pytest.raises(ConfigError) as caught:
        Setting("BRIDGE_TOKEN", refuse, "", "", (), secret=True).read({"BRIDGE_TOKEN": "geheim"})
    assert str(caught.value) == "BRIDGE_TOKEN is set: no"


DECIDED = {
    "up": {"INDEX_DIR", "FEATURES_DIR", "BRIDGE_DIR", "SHARD"},
    "find": {
        "IMAGES_DIR",
        "IMAGES_PRIVATE",
        "INDEX_DIR",
        "EMBEDDINGS_TOPIC",
        "TOPIC_PREFIX",
        "KAFKA_BOOTSTRAP_SERVERS",
        "KAFKA_GROUP_PROTOCOL",
        "SCHEMA_REGISTRY_URL",
        "DEAD_LETTER_LIMIT",
        "SHARD",
        "METRICS_PORT",
        "METRICS_HOST",
        "LOG_FORMAT",
    },
}
"""What these commands decide by themselves, or have an option of another name for."""


@pytest.mark.parametrize("command", DECIDED)
def test_up_and_find_have_an_option_for_each_setting_of_their_processes(command: str) -> None:
    readers = (*STAGES, Reader.BRIDGE) if command == "up" else STAGES
    needed = {setting.name for setting in read_by(*readers) if not setting.environment_only}
    offered = {setting.name for path, _, setting in OPTIONS if path.split()[-1] == command}
    assert needed - offered == DECIDED[command]
