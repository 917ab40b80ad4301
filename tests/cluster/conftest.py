"""One cluster for all tests here, with a user for each process and command."""

from collections.abc import Iterator

import pytest

from streams.permissions import PERMISSIONS
from tests.support.cluster import Cluster
from tests.support.granted import PREFIX, grant, imagetools, user_of


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """Three brokers; nobody but the administrator may do anything yet."""
    with Cluster(*map(user_of, PERMISSIONS)) as started:
        yield started


@pytest.fixture(scope="session")
def topics(cluster: Cluster) -> Cluster:
    """The cluster with the topics, made by a user who may do just that."""
    grant(cluster, "topics create", "topics create", "topics create, after an upgrade")
    made = imagetools(cluster, "topics create", "topics", "create", "--replication", "3").stdout.split()
    assert f"{PREFIX}images.new" in made
    assert "all there" in imagetools(cluster, "topics create", "topics", "create").stderr
    return cluster
