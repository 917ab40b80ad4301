"""Saves beside the work: what they hold, and what is said of those that fail."""

import os
import signal
import threading
import time
from pathlib import Path

import pytest

from imagetools.index.config import INDEX_ENGINES, IndexConfig
from imagetools.index.index import Index
from imagetools.index.saving import Saving
from tests.imagetools.index.local_pictures import codes_of
from tests.imagetools.index.test_index import random_vectors


@pytest.mark.parametrize("engine", INDEX_ENGINES)
def test_a_save_holds_what_was_there_when_it_began_and_the_index_goes_on(engine: str, tmp_path: Path) -> None:
    config = IndexConfig(engine=engine)
    index = Index(config)
    vectors = random_vectors(300)
    for n, vector in enumerate(vectors[:200]):
        index.add(str(n), vector, order=n, codes=codes_of(n))
    saving = index.begin_save(tmp_path / "saved", {"offset": 200})
    for n, vector in enumerate(vectors[200:], 200):
        index.add(str(n), vector, order=n)
        index.remove(str(n - 200))
    assert saving.wait() == ""
    assert saving.ended()
    again, info = Index.load(tmp_path / "saved", config)
    assert info == {"offset": 200}
    assert sorted(entry.order for entry in again.entries()) == list(range(200))
    assert again.search(vectors[3], 1)[0].relative_path == "3"
    assert again.change().search(vectors[299], 0, codes=codes_of(7), nb_local=3)[0].relative_path == "7"
    assert sorted(entry.order for entry in index.entries()) == list(range(100, 300))
    assert index.search(vectors[250], 1)[0].relative_path == "250"
    for one in (index, again):
        one.close()


def test_what_a_save_raises_is_the_reason_of_its_failure(tmp_path: Path) -> None:
    index = Index()
    index.add("a", random_vectors(1)[0], order=0)
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "file").touch()
    assert "already there" in index.begin_save(tmp_path / "there").wait()
    assert "No such file" in index.begin_save(tmp_path / "away" / "saved").wait()
    index.close()


def test_a_save_that_is_killed_says_so() -> None:
    def killed() -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    assert Saving(killed).wait() == "the process that wrote it was killed by SIGKILL"


def test_the_work_goes_on_beside_a_save_and_beside_other_threads(tmp_path: Path) -> None:
    go = tmp_path / "go"

    def slow() -> None:
        deadline = time.monotonic() + 60
        while not go.exists() and time.monotonic() < deadline:
            time.sleep(0.01)
        (tmp_path / "written").touch()

    stop = threading.Event()
    beside = threading.Thread(target=stop.wait)
    beside.start()
    saving = Saving(slow)
    assert not saving.ended()
    go.touch()
    assert saving.wait() == ""
    assert (tmp_path / "written").exists()
    stop.set()
    beside.join()
