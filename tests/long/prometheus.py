"""A real Prometheus that scrapes the service, where there is one on the PATH."""

import json
import shutil
import subprocess
import time
import urllib.parse
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from local_kafka.ports import free_ports
from tests.support.monitoring import MONITORING

SCRAPE_S = 5


class Prometheus:
    """A server that scrapes targets and evaluates the alert rules, until `stop`."""

    def __init__(self, folder: Path, targets: Mapping[str, Sequence[str]]) -> None:
        """targets: by the job's name, host:port."""
        found = shutil.which("prometheus")
        assert found is not None
        folder.mkdir()
        shutil.copy(MONITORING / "alerts.yml", folder)
        config = {
            "global": {"scrape_interval": f"{SCRAPE_S}s", "evaluation_interval": f"{SCRAPE_S}s"},
            "rule_files": ["alerts.yml"],
            "scrape_configs": [
                {"job_name": job, "static_configs": [{"targets": list(names)}]} for job, names in targets.items()
            ],
        }
        (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
        (port,) = free_ports(1)
        self._url = f"http://127.0.0.1:{port}"
        self._log = folder / "prometheus.log"
        with self._log.open("wb") as out:
            self._process = subprocess.Popen(
                [found, f"--config.file={folder / 'prometheus.yml'}", f"--storage.tsdb.path={folder / 'data'}",
                 f"--web.listen-address=127.0.0.1:{port}"],
                stdout=out, stderr=out,
            )  # fmt: skip
        deadline = time.monotonic() + 60
        while True:
            try:
                self._get("/-/ready")
                return
            except OSError:
                assert self._process.poll() is None, self._log.read_text()
                assert time.monotonic() < deadline, self._log.read_text()
                time.sleep(0.1)

    def query(self, expression: str) -> list[Any]:
        """Return the result of an expression now. AssertionError where it is refused."""
        answer = json.loads(self._get("/api/v1/query?" + urllib.parse.urlencode({"query": expression})))
        assert answer["status"] == "success", answer
        found: list[Any] = answer["data"]["result"]
        return found

    def series(self, expression: str, began: float, ended: float) -> list[Any]:
        """Return the result of an expression over a time, as a panel asks for it; times since the epoch."""
        step = max(SCRAPE_S, round((ended - began) / 200))
        asked = {"query": expression, "start": began, "end": ended, "step": step}
        answer = json.loads(self._get("/api/v1/query_range?" + urllib.parse.urlencode(asked)))
        assert answer["status"] == "success", answer
        found: list[Any] = answer["data"]["result"]
        return found

    def alerts(self) -> list[str]:
        """Return the names of the rules that fire now."""
        alerts = json.loads(self._get("/api/v1/alerts"))["data"]["alerts"]
        return sorted({one["labels"]["alertname"] for one in alerts if one["state"] == "firing"})

    def stop(self) -> None:
        """End it."""
        self._process.terminate()
        self._process.wait(30)

    def _get(self, path: str) -> str:
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(self._url + path, timeout=30) as answer:
            return str(answer.read().decode())
