"""The OpenAPI document against what is served: by schemathesis, with data that fits it and data that does not."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from http_bridge.openapi import document
from streams.config import KafkaConfig
from tests.support.bridging import answering, bridge, stages
from tests.support.streaming import write_groups

SETTINGS = """
[generation]
mode = "all"
max-examples = 30
deterministic = true
allow-x00 = true

[checks.positive_data_acceptance]
# what fits the schema may still name an image that is not there, is none, or has another dimension, or contradict
# what another example has decided
expected-statuses = ["2xx", "404", "409", "413", "415", "422"]

[checks.negative_data_rejection]
# a list that is too long may make the whole body too large
expected-statuses = [
    "400", "401", "403", "404", "405", "406", "409", "413", "415", "422", "428", "429", "5xx"
]
"""
ENDLESS = "/v1/duplicates/stream"


def test_schemathesis_finds_nothing(kafka: KafkaConfig, tmp_path: Path) -> None:
    images = tmp_path / "images"
    write_groups(images, 1)
    # as the document's examples name them
    for name in ("a.jpg", "b.jpg", "c.jpg"):
        shutil.copy(images / "0 resized.jpg", images / name)
    (tmp_path / "schemathesis.toml").write_text(SETTINGS)
    with answering(kafka, *stages(kafka, images, tmp_path / "index")), bridge(kafka, tmp_path) as asked:
        asked.wait_ready()
        command = [
            os.path.join(os.path.dirname(sys.executable), "schemathesis"),
            "--config-file",
            str(tmp_path / "schemathesis.toml"),
            "run",
            f"{asked.url}/openapi.json",
            "--exclude-path",
            ENDLESS,
            "--phases",
            "examples,coverage,fuzzing",
            "--no-color",
        ]
        run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert run.returncode == 0, run.stdout[-6000:] + run.stderr[-2000:]
        tested = re.search(r"Tested: (\d+)", run.stdout)
        assert tested is not None, run.stdout
        operations = sum(len(set(item) & {"get", "post", "delete"}) for item in document(token=False)["paths"].values())
        assert int(tested[1]) == operations - 1
        assert "a fault while serving" not in asked.log.read_text()


@pytest.mark.parametrize("token", [False, True])
def test_the_document_names_every_path_once_and_every_reference_leads_somewhere(token: bool) -> None:
    found = document(token=token)
    assert {"/api-image-encoder", "/api-contextual-search", "/api-instance-matching", ENDLESS} <= set(found["paths"])
    names = set(re.findall(r"#/components/schemas/(\w+)", repr(found)))
    assert names == set(found["components"]["schemas"])
    assert ("security" in found) == token
