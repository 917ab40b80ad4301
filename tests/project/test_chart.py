"""The Helm chart: it keeps to Kubernetes' schemas, and says what the settings, the topics and the processes say."""

import copy
import json
import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import click
import jsonschema
import pytest
import yaml
from kubernetes_validate.utils import ValidationError

from cli.main import main
from streams.config import BridgeConfig, Config, KafkaConfig
from streams.settings import SETTINGS, STAGES, Reader, read_by
from streams.sharding.shards import Shard
from streams.topics import PARTITIONS, READS
from tests.support.charts import (
    CHART,
    LEAST,
    MOST,
    NEWEST,
    OLDEST,
    Json,
    container,
    environment,
    helm,
    needs_helm,
    of_kind,
    pods,
    refusal,
    rendered,
    validate,
)
from tests.support.monitoring import MONITORING, ROOT, dashboard, rules

BY_THE_CHART = {
    "IMAGES_DIR", "INDEX_DIR", "FEATURES_DIR", "BRIDGE_DIR", "MODELS_DIR", "BRIDGE_HOST", "BRIDGE_TOKEN", "MEMBER_NAME",
    "METRICS_PORT", "METRICS_HOST", "SHARD",
}  # fmt: skip
"""Settings that the chart sets itself, or leaves at their defaults, since it mounts a volume there."""

NOT_IN_A_CHART = {"MEMBER_RESTARTS", "SERVER_PORT", "SOURCE_DIR", "TARGET_DIR"}

both = pytest.mark.parametrize("values", [LEAST, MOST], ids=["least", "most"])


def test_the_settings_of_the_chart_are_those_of_the_table():
    """A new setting belongs into charts/imagetools/values.schema.json, or into one of the sets above."""
    schema = json.loads((CHART / "values.schema.json").read_text())
    names, further, of_traces = schema["$defs"]["settings"]["propertyNames"]["anyOf"]
    table = [setting.name for setting in SETTINGS]
    assert names["enum"] == [name for name in table if name not in BY_THE_CHART | NOT_IN_A_CHART]
    assert set(table) >= BY_THE_CHART | NOT_IN_A_CHART
    assert further["pattern"].startswith("^KAFKA_")
    assert re.search(of_traces["pattern"], "OTEL_TRACES_SAMPLER_ARG")
    # it may hold a key, which comes from a secret
    assert not re.search(of_traces["pattern"], "OTEL_EXPORTER_OTLP_HEADERS")


def test_the_charts_program_is_this_one():
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    version = next(line for line in (ROOT / "pyproject.toml").read_text().splitlines() if line.startswith("version"))
    assert version == f'version = "{chart["appVersion"]}"'
    assert chart["kubeVersion"] == f">={OLDEST}.0-0"


@needs_helm
@both
def test_helm_finds_no_fault(values):
    tried = helm("lint", str(CHART), "--strict", values=values)
    assert tried.returncode == 0, tried.stdout + tried.stderr


@needs_helm
@both
@pytest.mark.parametrize("version", [OLDEST, NEWEST])
def test_every_resource_is_one_that_kubernetes_takes(values, version):
    resources = rendered(values)
    for resource in resources:
        validate(resource, version)
    kinds = {resource["kind"] for resource in resources}
    usual = {"StatefulSet", "Service", "ConfigMap", "PodDisruptionBudget", "Job"}
    assert kinds == (
        usual | {"ScaledObject", "PodMonitor", "PrometheusRule", "NetworkPolicy"} if values is MOST else usual
    )


@needs_helm
def test_a_resource_with_a_misspelt_field_is_none():
    resources = rendered(MOST)
    for kind, field, error in (
        ("StatefulSet", "serviceNam", ValidationError),
        ("ScaledObject", "maxReplicas", jsonschema.ValidationError),
        ("PodMonitor", "endpoints", jsonschema.ValidationError),
    ):
        wrong = copy.deepcopy(next(iter(of_kind(resources, kind).values())))
        wrong["spec"][field] = "x"
        with pytest.raises(error, match=field):
            validate(wrong, NEWEST)


@needs_helm
@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({}, "images.volume is empty: name the volume"),
        (LEAST | {"settings": {"TRESHOLD": 0.8}}, "invalid propertyName 'TRESHOLD'"),
        (LEAST | {"settings": {"KAFKA_SASL_PASSWORD": "x"}}, "invalid propertyName 'KAFKA_SASL_PASSWORD'"),
        (LEAST | {"settings": {"SHARD": "0/2"}}, "invalid propertyName 'SHARD'"),
        (LEAST | {"encoder": {"replicas": -1}}, "'/encoder/replicas'"),
        (LEAST | {"encoders": 2}, "'encoders' not allowed"),
        (LEAST | {"secretSettings": {"KAFKA_SASL_PASSWORD": "x"}}, "'/secretSettings/KAFKA_SASL_PASSWORD'"),
    ],
)
def test_wrong_values_are_refused_by_name(values, reason):
    assert reason in refusal(values)


@needs_helm
def test_the_documented_values_are_taken():
    guide = (ROOT / "docs" / "deploy.md").read_text("utf-8").split("## Kubernetes")[1]
    (block,) = re.findall(r"```yaml\n(.*?)```", guide, re.DOTALL)
    for resource in rendered(yaml.safe_load(textwrap.dedent(block))):
        validate(resource, NEWEST)


@needs_helm
def test_a_collection_in_an_object_store_needs_no_volume():
    resources = rendered({"images": {"dir": "s3://photos/all"}})
    encoder = of_kind(resources, "StatefulSet")["encoder"]
    assert environment(encoder, resources)["IMAGES_DIR"] == "s3://photos/all"
    assert "images" not in {volume["name"] for volume in encoder["spec"]["template"]["spec"]["volumes"]}


@needs_helm
@both
def test_every_process_is_there_with_settings_that_it_reads(values):
    resources = rendered(values)
    stateful = of_kind(resources, "StatefulSet")
    commands = [container(one)["args"][0] for one in stateful.values()]
    assert set(commands) == {*STAGES, Reader.BRIDGE}
    table = {setting.name for setting in SETTINGS}
    for one in stateful.values():
        (command,) = container(one)["args"]
        given = environment(one, resources)
        own = {setting.name for setting in read_by(Reader(command))}
        everybodys = of_kind(resources, "ConfigMap")["settings"]["data"]
        for name in set(given) - set(everybodys) - {"HOME"}:
            assert name in own or name not in table, f"{command} does not read {name}"
        config = (BridgeConfig if command == "bridge" else Config).from_env(given)
        assert config.kafka.bootstrap == everybodys["KAFKA_BOOTSTRAP_SERVERS"]


@needs_helm
def test_values_arrive_as_they_were_written():
    resources = rendered(MOST)
    config = Config.from_env(environment(of_kind(resources, "StatefulSet")["matcher"], resources))
    assert (config.features_mb, config.matcher.alert_moved, config.matcher.threshold) == (1_000_000, False, 0.8)
    # of all processes, and of this one alone
    assert (config.kafka.settings["security.protocol"], config.nb_workers) == ("SASL_SSL", 4)


@needs_helm
def test_a_process_keeps_its_name_and_every_shard_has_its_processes():
    resources = rendered(MOST)
    stateful = of_kind(resources, "StatefulSet")
    shards = {
        name: KafkaConfig.from_env(environment(one, resources)).shard
        for name, one in stateful.items()
        if container(one)["args"] == ["search"]
    }
    assert shards == {f"search-{index}-of-3": Shard(index, 3) for index in range(3)}
    for one in stateful.values():
        named = [e["valueFrom"]["fieldRef"]["fieldPath"] for e in container(one)["env"] if e["name"] == "MEMBER_NAME"]
        assert named == ([] if container(one)["args"] == ["bridge"] else ["metadata.name"])
        assert one["spec"]["serviceName"] in {s["metadata"]["name"] for s in resources if s["kind"] == "Service"}
    assert set(of_kind(rendered(LEAST), "StatefulSet")) == {*STAGES, "bridge"}


@needs_helm
@both
def test_what_a_process_writes_to_is_a_volume(values):
    resources = rendered(values)
    for one in of_kind(resources, "StatefulSet").values():
        (command,) = container(one)["args"]
        mounts = {mount["mountPath"]: mount.get("readOnly", False) for mount in container(one)["volumeMounts"]}
        volumes = {volume["name"] for volume in one["spec"]["template"]["spec"]["volumes"]}
        volumes |= {claim["metadata"]["name"] for claim in one["spec"].get("volumeClaimTemplates", [])}
        assert volumes == {mount["name"] for mount in container(one)["volumeMounts"]}
        given = environment(one, resources)
        assert mounts.pop("/tmp") is False
        assert given["HOME"] == "/tmp"
        config = Config.from_env(given)
        written = {
            "search": config.index_dir, "matcher": config.features_dir, "grouping": config.features_dir,
            "encoder": config.features_dir, "bridge": BridgeConfig.from_env(given).bridge_dir,
        }[command]  # fmt: skip
        assert {Path(path) for path, only_read in mounts.items() if not only_read} == ({written} if written else set())
        assert (str(config.images_dir) in mounts) == (Reader(command) in setting_readers("IMAGES_DIR"))
        if values is MOST and command == "encoder":
            assert mounts[str(config.models_dir)] is True


def setting_readers(name: str) -> tuple[Reader, ...]:
    (found,) = (setting for setting in SETTINGS if setting.name == name)
    return found.readers


@needs_helm
@both
def test_every_pod_has_few_rights(values):
    for pod in pods(rendered(values)):
        spec = pod["spec"]
        assert spec["automountServiceAccountToken"] is False
        assert spec["enableServiceLinks"] is False
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert f"--uid {spec['securityContext']['runAsUser']} " in (ROOT / "Dockerfile").read_text()
        (only,) = spec["containers"]
        assert only["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert only["resources"]["requests"]["memory"]
        assert only["resources"]["limits"]["memory"]


@needs_helm
def test_secrets_are_named_and_never_copied():
    resources = rendered(MOST)
    assert not of_kind(resources, "Secret")
    for pod in pods(resources):
        (only,) = pod["spec"]["containers"]
        secret = {
            e["name"]: e["valueFrom"]["secretKeyRef"] for e in only["env"] if "secretKeyRef" in e.get("valueFrom", {})
        }
        tokens = {"BRIDGE_TOKEN": {"name": "bridge", "key": "token"}} if only["name"] == "bridge" else {}
        assert secret == MOST["secretSettings"] | tokens
        assert {"name": "tls", "secret": {"secretName": "kafka-ca"}} in pod["spec"]["volumes"]


@needs_helm
@both
def test_probes_and_metrics_are_asked_for_where_they_are_served(values):
    resources = rendered(values)
    for one in of_kind(resources, "StatefulSet").values():
        here = container(one)
        ports = {port["name"]: port["containerPort"] for port in here["ports"]}
        given = environment(one, resources)
        if here["args"] == ["bridge"]:
            config = BridgeConfig.from_env(given)
            assert (config.host, tuple(ports[name] for name in ("encoder", "search", "matcher"))) == (
                "0.0.0.0", BridgeConfig().contract_ports
            )  # fmt: skip
        else:
            stage = Config.from_env(given)
            assert (stage.metrics_host, {"metrics": stage.metrics_port}) == ("0.0.0.0", ports)
        for probe, path in (("startupProbe", "/healthz"), ("livenessProbe", "/healthz"), ("readinessProbe", "/readyz")):
            assert here[probe]["httpGet"]["path"] == path
            assert here[probe]["httpGet"]["port"] in ports


@needs_helm
@both
def test_budgets_and_services_choose_the_pods_that_they_are_meant_for(values):
    resources = rendered(values)
    stateful = of_kind(resources, "StatefulSet")

    def chosen(selector: Json) -> set[str]:
        return {
            name for name, one in stateful.items()
            if selector.items() <= one["spec"]["template"]["metadata"]["labels"].items()
        }  # fmt: skip

    budgets = of_kind(resources, "PodDisruptionBudget")
    assert set(budgets) == set(stateful)
    for name, one in (*stateful.items(), *budgets.items()):
        assert chosen(one["spec"]["selector"]["matchLabels"]) == {name}
    services = of_kind(resources, "Service")
    assert {name: chosen(one["spec"]["selector"]) for name, one in services.items()} == {
        "": set(stateful), "bridge": {"bridge"}
    }  # fmt: skip


@needs_helm
def test_encoders_and_matchers_are_as_many_as_their_lag_asks_for():
    resources = rendered(MOST)
    stateful, scaled = of_kind(resources, "StatefulSet"), of_kind(resources, "ScaledObject")
    assert set(scaled) == {"encoder", "matcher"}
    kafka = KafkaConfig(prefix="team.")
    for name, one in scaled.items():
        assert one["spec"]["scaleTargetRef"]["name"] == stateful[name]["metadata"]["name"]
        # the number of processes is KEDA's alone
        assert "replicas" not in stateful[name]["spec"]
        assert one["spec"]["maxReplicaCount"] <= PARTITIONS
        (trigger,) = one["spec"]["triggers"]
        assert trigger["metadata"]["consumerGroup"] == kafka.group(name)
        assert trigger["metadata"]["topic"] == kafka.topic(READS[name].name)
    assert all(one["spec"]["replicas"] == 2 for one in of_kind(rendered(LEAST), "StatefulSet").values())


@needs_helm
def test_prometheus_and_grafana_get_what_the_folder_monitoring_holds():
    resources = rendered(MOST)
    (rule,) = of_kind(resources, "PrometheusRule").values()
    assert [one for group in rule["spec"]["groups"] for one in group["rules"]] == rules()
    assert json.loads(of_kind(resources, "ConfigMap")["dashboard"]["data"]["imagetools.json"]) == dashboard()
    monitors = of_kind(resources, "PodMonitor")
    ends = {name: one["spec"]["podMetricsEndpoints"][0] for name, one in monitors.items()}
    jobs = {relabeling["replacement"] for end in ends.values() for relabeling in end["relabelings"]}
    config = yaml.safe_load((MONITORING / "prometheus.yml").read_text())
    assert jobs == {job["job_name"] for job in config["scrape_configs"]}
    assert ends["bridge"]["authorization"]["credentials"] == MOST["bridge"]["tokenSecret"]


@needs_helm
def test_the_job_before_an_installation_creates_the_topics(bootstrap, kafka):
    prefix = kafka.prefix + "chart."
    resources = rendered(LEAST | {"settings": {"KAFKA_BOOTSTRAP_SERVERS": bootstrap, "TOPIC_PREFIX": prefix}})
    job = of_kind(resources, "Job")["topics"]
    assert job["metadata"]["annotations"]["helm.sh/hook"] == "pre-install,pre-upgrade"
    run = subprocess.run(
        [sys.executable, "-m", "imagetools", *container(job)["args"]],
        env={"PATH": os.environ["PATH"], "PYTHONPATH": os.pathsep.join(sys.path)} | environment(job, resources),
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    assert f"{prefix}images.new" in run.stdout.split()


@needs_helm
@both
def test_every_command_is_one_of_the_command_line(values):
    for pod in pods(rendered(values)):
        command: click.Command = main
        context = click.Context(main)
        arguments = list(pod["spec"]["containers"][0]["args"])
        while isinstance(command, click.Group):
            found = command.get_command(context, arguments.pop(0))
            assert found is not None
            command = found
        with command.make_context("pod", arguments) as parsed:
            assert parsed.args == []
