"""Starting: addresses and ports."""

from pathlib import Path
from typing import Any

import pytest

from streams.config import KafkaConfig
from tests.support.bridging import (
    NOWHERE,
    Bridge,
    Service,
    bridge,
    refused_start,
)


def test_a_port_that_is_taken_is_named(service: Service) -> None:
    said = refused_start(service.kafka, SERVER_PORT=str(service.bridge.ports[0]))
    assert str(service.bridge.ports[0]) in said
    assert "Traceback" not in said


class TestStart:
    def test_an_address_that_others_reach_is_warned_of_without_a_token(self, bootstrap: str, tmp_path: Path) -> None:
        warned = []
        choices: tuple[dict[str, Any], ...] = (
            {"BRIDGE_HOST": "0.0.0.0"},
            {"BRIDGE_HOST": "0.0.0.0", "BRIDGE_TOKEN": "a"},
            {},
        )
        for settings in choices:
            with bridge(KafkaConfig(bootstrap), tmp_path, SERVER_PORT="0", **settings) as started:
                warned.append([line for line in started.log.read_text().splitlines() if "BRIDGE_TOKEN" in line])
        assert [len(lines) for lines in warned] == [1, 0, 0]
        assert "WARNING BRIDGE_HOST is 0.0.0.0 and BRIDGE_TOKEN is not set: anyone who" in warned[0][0]

    @pytest.mark.parametrize(
        ("host", "word"),
        [
            ("192.0.2.1", "--bridge-host"),
            ("no.such.host.invalid", "BRIDGE_HOST"),
            ("a" * 70 + ".example", "BRIDGE_HOST"),
        ],
    )
    def test_an_address_that_cannot_be_had_is_named(self, host: str, word: str) -> None:
        said = refused_start(NOWHERE, BRIDGE_HOST=host, SERVER_PORT="0")
        assert word in said
        assert "Traceback" not in said

    def test_a_port_that_is_taken_names_the_option(self, offline: Bridge) -> None:
        said = refused_start(NOWHERE, SERVER_PORT=str(offline.ports[0]))
        assert "SERVER_PORT or --server-port" in said
        assert str(offline.ports[0]) in said
