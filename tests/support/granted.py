"""Processes and commands on a cluster with ACLs, each run by a user who has what the docs list for it."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from click.testing import CliRunner, Result

from cli.main import main
from streams.config import KafkaConfig
from streams.permissions import Right, rights_of
from tests.support.cluster import Cluster
from tests.support.processes import Running, start

PREFIX = "team."
SECOND_LOG = "embeddings.2"
EVENTS = "bucket-events"
STAGES = ("encoder", "search", "matcher", "grouping")


def user_of(name: str) -> str:
    """Return the user that runs a process or a command."""
    return name.replace(" ", "-").replace(",", "")


def documented(name: str) -> list[Right]:
    """Return the rights of a process or a command, on the tests' topics."""
    return rights_of(KafkaConfig(prefix=PREFIX), name, target=SECOND_LOG, topic=EVENTS)


def grant(cluster: Cluster, user: str, *names: str) -> None:
    """Give a user what the docs list for its own work, or for these names."""
    cluster.grant(user_of(user), [right for name in names or (user,) for right in documented(name)])


@contextmanager
def without(cluster: Cluster, user: str, right: Right, *names: str) -> Iterator[None]:
    """A user who has all but one of the rights of these names."""
    grant(cluster, user, *names)
    cluster.withdraw(user_of(user), [right])
    try:
        yield
    finally:
        cluster.grant(user_of(user), [right])


def imagetools(cluster: Cluster, user: str, *words: str | Path, code: int = 0, **environ: str) -> Result:
    """Run a command as a user."""
    settings = cluster.environ(user_of(user), PREFIX) | environ
    result = CliRunner().invoke(main, list(map(str, words)), env=settings)
    assert result.exit_code == code, result.output
    return result


def assert_named(cluster: Cluster, user: str, right: Right, text: str) -> None:
    """The text says who lacks which right, and what to do."""
    words = " ".join(text.split())
    assert f"User:{user_of(user)} may not do what this needs on {cluster.bootstrap}" in words, text
    assert str(right) in words, text
    assert "An administrator of the cluster can grant it; docs/deploy.md lists the permissions" in words
    assert "Traceback" not in text, text


@contextmanager
def service(cluster: Cluster, images: Path, folder: Path, port: int) -> Iterator[dict[str, Running]]:
    """The stages and, on that port, a bridge, each as its own user; all must end well and be refused nothing."""
    running: dict[str, Running] = {}
    grant(cluster, "bridge", "bridge", "bridge, to send dead letters back", BRIDGE_FORGETS)
    try:
        for name in (*STAGES, "bridge"):
            if name != "bridge":
                grant(cluster, name)
            environ = cluster.environ(name, PREFIX) | {
                "IMAGES_DIR": str(images), "INDEX_DIR": str(folder / "index"), "FEATURES_DIR": str(folder / "features"),
                "SERVER_PORT": str(port), "MEMBER_NAME": f"{name}-0",
            }  # fmt: skip
            running[name] = start(name, log=folder / f"{name}.log", environ=environ)
        yield running
    finally:
        for one in running.values():
            one.process.send_signal(signal.SIGTERM)
        for one in running.values():
            one.process.wait(60)
    for one in running.values():
        assert one.process.returncode == 0, one.text
        assert "uthorization" not in one.text, one.text


BRIDGE_FORGETS = "bridge, to forget what the topics have forgotten"
