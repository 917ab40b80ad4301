"""The Helm chart, rendered by Helm."""

import json
import shutil
import subprocess
import sysconfig
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate.utils
import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
CHART = ROOT / "charts" / "imagetools"
CRDS = ROOT / "tests" / "project" / "crds"
OLDEST, NEWEST = "1.27", "1.37"
"""Versions of Kubernetes; the first is the chart's own kubeVersion."""

HELM = shutil.which("helm", path=sysconfig.get_path("scripts")) or shutil.which("helm")
needs_helm = pytest.mark.skipif(HELM is None, reason="no helm: with Go on the PATH, `scripts/setup test` builds it")

Json = dict[str, Any]

PHOTOS = {"persistentVolumeClaim": {"claimName": "photos", "readOnly": True}}
LEAST: Json = {"images": {"volume": PHOTOS}}
"""What must be said."""
MOST: Json = {
    "image": {"repository": "registry.example.org/imagetools", "tag": "1.0"},
    "imagePullSecrets": [{"name": "pull"}],
    "settings": {
        "KAFKA_BOOTSTRAP_SERVERS": "broker-1:9093,broker-2:9093",
        "KAFKA_SECURITY_PROTOCOL": "SASL_SSL",
        "KAFKA_SASL_MECHANISM": "SCRAM-SHA-512",
        "TOPIC_PREFIX": "team.",
        "FEATURES_MB": 1_000_000,
        "ALERT_MOVED": False,
        "THRESHOLD": 0.8,
    },
    "secretSettings": {
        "KAFKA_SASL_USERNAME": {"name": "kafka", "key": "user"},
        "KAFKA_SASL_PASSWORD": {"name": "kafka", "key": "password"},
    },
    "tlsSecret": "kafka-ca",
    "images": {"volume": PHOTOS},
    "features": {"volume": {"hostPath": {"path": "/var/lib/imagetools", "type": "Directory"}}},
    "models": {"volume": {"persistentVolumeClaim": {"claimName": "models", "readOnly": True}}},
    "encoder": {"autoscaling": {"enabled": True, "authentication": "kafka"}},
    "matcher": {"autoscaling": {"enabled": True}, "settings": {"NB_WORKERS": 4}},
    "search": {"shards": 3, "storage": {"storageClassName": "fast"}},
    "bridge": {"tokenSecret": {"name": "bridge", "key": "token"}, "storage": {"persistent": True}},
    "pod": {
        "annotations": {"example.org/a": "b"},
        "labels": {"team": "photos"},
        "nodeSelector": {"disk": "ssd"},
        "tolerations": [{"key": "photos", "operator": "Exists"}],
        "affinity": {"nodeAffinity": {}},
        "priorityClassName": "high",
        "serviceAccountName": "imagetools",
    },
    "monitoring": {"podMonitor": True, "prometheusRule": True, "dashboard": True, "labels": {"release": "prometheus"}},
    "networkPolicy": {"enabled": True, "metricsFrom": [{"namespaceSelector": {"matchLabels": {"name": "monitoring"}}}]},
}
"""All that can be said."""


def helm(*words: str, values: Json) -> "subprocess.CompletedProcess[str]":
    assert HELM is not None
    command = [HELM, *words, "--kube-version", NEWEST, "--values", "-"]
    return subprocess.run(command, input=json.dumps(values), capture_output=True, text=True, check=False)


def refusal(values: Json) -> str:
    """What Helm says of values that it does not take."""
    tried = helm("template", "team", str(CHART), values=values)
    assert tried.returncode != 0
    return tried.stderr


@cache
def _rendered(text: str) -> str:
    made = helm("template", "team", str(CHART), values=json.loads(text))
    assert made.returncode == 0, made.stderr
    return made.stdout


def rendered(values: Json) -> list[Json]:
    """The resources."""
    return [one for one in yaml.safe_load_all(_rendered(json.dumps(values))) if one]


def of_kind(resources: list[Json], kind: str) -> dict[str, Json]:
    """Resources by their names, without the release's."""
    return {
        one["metadata"]["name"].removeprefix("team-imagetools").removeprefix("-"): one
        for one in resources
        if one["kind"] == kind
    }


def pods(resources: list[Json]) -> Iterator[Json]:
    for one in resources:
        if one["kind"] in ("StatefulSet", "Job"):
            yield one["spec"]["template"]


def container(resource: Json) -> Json:
    (only,) = resource["spec"]["template"]["spec"]["containers"]
    found: Json = only
    return found


def environment(resource: Json, resources: list[Json]) -> dict[str, str]:
    """The variables of a container; what comes from a secret or from the pod is said in words."""
    here = container(resource)
    found: dict[str, str] = {}
    for source in here.get("envFrom", []):
        name = source["configMapRef"]["name"].removeprefix("team-imagetools-")
        found |= of_kind(resources, "ConfigMap")[name]["data"]
    for one in here["env"]:
        assert ("value" in one) != ("valueFrom" in one)
        found[one["name"]] = one.get("value", "from elsewhere")
    return found


def validate(resource: Json, version: str) -> None:
    """Raise jsonschema's ValidationError, or the package's own, where a resource is not what Kubernetes takes."""
    group, _, own = resource["apiVersion"].rpartition("/")
    schema = CRDS / f"{resource['kind'].lower()}_{own}.json"
    if schema.exists():
        jsonschema.validate(resource, json.loads(schema.read_text()))
    else:
        assert "." not in group or group.endswith(".k8s.io"), f"no schema of {resource['kind']}"
        kubernetes_validate.utils.validate(resource, version, strict=True)
