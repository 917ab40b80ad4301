"""The index against brute force, and with equal vectors, which NGT alone would lose."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imagetools.errors import IndexMismatch
from imagetools.index import usearch_graph
from imagetools.index.config import DISTANCE_TYPES, INDEX_ENGINES, MAX_PER_NODE, NEIGHBORS_BY_PARTS, IndexConfig
from imagetools.index.engines import open_graph
from imagetools.index.entry import Entry
from imagetools.index.index import Index
from imagetools.index.search import Hit


def unit(rows: np.ndarray) -> np.ndarray:
    return (rows / np.linalg.norm(rows, axis=-1, keepdims=True)).astype(np.float32)


def random_vectors(n: int, d: int = 64, seed: int = 0) -> np.ndarray:
    return unit(np.random.default_rng(seed).normal(size=(n, d)))


def brute_force(
    vectors: dict[str, np.ndarray], query: np.ndarray, k: int, distance_type: str
) -> list[tuple[str, float]]:
    """The reference: all distances, in double precision."""

    def score(v: np.ndarray) -> float:
        a, b = v.astype(np.float64), query.astype(np.float64)
        if distance_type == "L1":
            return 1 / (1 + float(np.abs(a - b).sum()))
        if distance_type == "L2":
            return 1 / (1 + float(np.sqrt(((a - b) ** 2).sum())))
        return max(0.0, float(a @ b) / float(np.linalg.norm(a) * np.linalg.norm(b)))

    return sorted(((path, score(v)) for path, v in vectors.items()), key=lambda hit: -hit[1])[:k]


@pytest.fixture(params=INDEX_ENGINES)
def index(request):
    made = Index(IndexConfig(engine=request.param))
    yield made
    made.close()


# by engine and distance type, how far a score may be from the exact one
NEAR = {("NGT", kind): 1e-4 if kind == "Angle" else 2e-6 for kind in DISTANCE_TYPES} | {
    ("USearch", kind): 2e-6 if kind == "L2" else 2e-4 for kind in DISTANCE_TYPES if kind != "L1"
}


@pytest.mark.parametrize(("engine", "distance_type"), NEAR)
def test_finds_what_brute_force_finds(engine, distance_type):
    vectors = {f"{i}.jpg": v for i, v in enumerate(random_vectors(400))}
    index = Index(IndexConfig(distance_type, engine=engine))
    change = index.change()
    for order, (path, vector) in enumerate(vectors.items()):
        change.add(Entry(order, path), vector)
    change.apply()
    found = wanted = 0
    for query in random_vectors(50, seed=1):
        truth = brute_force(vectors, query, 10, distance_type)
        hits = index.search(query, 10)
        assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)
        assert all(0 <= hit.score <= 1 for hit in hits)
        exact = dict(truth)
        for hit in hits:
            if hit.relative_path in exact:
                assert hit.score == pytest.approx(exact[hit.relative_path], abs=NEAR[engine, distance_type])
        found += len(exact.keys() & {hit.relative_path for hit in hits})
        wanted += len(truth)
    assert found >= 0.99 * wanted
    index.close()


def test_an_empty_index_has_no_neighbors(index):
    assert index.search(random_vectors(1)[0], 10) == []


def test_an_emptied_index_has_none_either_and_takes_more(index):
    vector = random_vectors(1)[0]
    index.add("a", vector, order=0)
    index.remove("a")
    assert index.search(vector, 10) == []
    assert len(index) == 0
    index.add("b", vector, order=1)
    assert [n.relative_path for n in index.search(vector, 10)] == ["b"]


def test_one_neighbor_is_one(index):
    for order, vector in enumerate(random_vectors(5)):
        index.add(str(order), vector, order=order)
    assert index.search(random_vectors(5)[3], 1) == [Hit("3", pytest.approx(1.0, abs=1e-6))]  # type: ignore[arg-type]


def test_401_equal_vectors_are_all_reachable(index):
    vector, other = random_vectors(2)
    index.add("other", other, order=0)
    change = index.change()
    for order in range(1, 402):
        hits = change.search(vector, 10, digest=b"d" * 32)
        if order > 1:
            assert hits[0].relative_path == "1"
            assert hits[0].identical
        change.add(Entry(order, str(order), digest=b"d" * 32), vector)
    change.apply()
    assert len(index) == 402
    hits = index.search(vector, 10)
    assert [hit.relative_path for hit in hits] == ["1", "2", "3", "4", "5", "other"]
    for gone in range(1, 401):
        index.remove(str(gone))
    assert [hit.relative_path for hit in index.search(vector, 10)] == ["401", "other"]


def test_equal_bytes_are_found_even_where_the_fingerprints_drifted_apart(index):
    a, b = random_vectors(2)
    drifted = unit(a + 0.05 * b)
    index.add("a", a, order=0, digest=b"same" * 8)
    change = index.change()
    hits = change.search(drifted, 1, digest=b"same" * 8)
    assert [(hit.relative_path, hit.identical) for hit in hits] == [("a", True)]
    change.add(Entry(1, "b", digest=b"same" * 8), drifted)
    change.apply()
    assert {hit.relative_path for hit in index.search(a, 1)} == {"a", "b"}


def test_an_image_is_found_by_its_parts_and_by_those_of_the_query(index):
    whole, left, right, photo, crop = random_vectors(5)
    index.add("collage", whole, order=0, parts=[left, right])
    index.add("photo", photo, order=1)
    # the photo came first, and is a part of the query
    hits = index.change().search(crop, 1, parts=[photo])
    assert hits[0] == Hit("photo", pytest.approx(1.0, abs=1e-6))  # type: ignore[arg-type]
    # the collage came first, and the query is a part of it
    assert [n.relative_path for n in index.search(whole, 1)] == ["collage"]
    for part in (left, right):
        assert [n.relative_path for n in index.search(part, 1)] == ["collage", "photo"], "on top of the nearest whole"
    # on three nodes, and still one image
    assert sorted(n.relative_path for n in index.search(left, 2)) == ["collage", "photo"]
    assert len(index) == 2
    index.remove("collage")
    assert [n.relative_path for n in index.search(left, 3)] == ["photo"]
    index.add("collage", whole, order=2)
    assert index.search(left, 3)[0].score < 0.9


def test_hits_by_parts_displace_no_other_hits(index):
    rows = random_vectors(40)
    for n in range(20):
        index.add(f"whole {n}", rows[n], order=n)
    before = [n.relative_path for n in index.search(rows[0], 5)]
    for n in range(20, 40):
        index.add(f"collage {n}", rows[n], order=n, parts=[unit(rows[0] + 0.1 * rows[n])])
    hits = index.search(rows[0], 5)
    assert [hit.relative_path for hit in hits if hit.relative_path.startswith("whole")][: len(before)] == [
        name for name in before if name in {hit.relative_path for hit in hits}
    ]
    near = [hit for hit in hits if hit.score > 0.95 and hit.relative_path.startswith("collage")]
    assert len(near) == NEIGHBORS_BY_PARTS
    assert len(hits) == 5 + NEIGHBORS_BY_PARTS


def test_a_whole_image_is_shown_before_those_that_hold_it_as_a_part(index):
    rows = random_vectors(8)
    for n in range(6):
        index.add(f"screenshot {n}", rows[n], order=n, parts=[rows[7]])
    index.add("photo", rows[7], order=10)
    shown = [hit.relative_path for hit in index.search(rows[7], 1)]
    assert shown[0] == "photo"
    assert len(shown) == MAX_PER_NODE


def test_a_part_of_other_length_than_the_whole_is_refused(index):
    with pytest.raises(IndexMismatch, match="with a part of 32"):
        index.change().add(Entry(0, "a"), random_vectors(1)[0], parts=[random_vectors(1, d=32)[0]])


def test_equal_parts_of_one_image_and_of_others_share_a_node(index):
    a, b, cell = random_vectors(3)
    change = index.change()
    change.add(Entry(0, "a"), a, parts=[cell, cell])
    change.add(Entry(1, "b"), b, parts=[cell])
    change.add(Entry(2, "cell"), cell)
    change.apply()
    assert index.nb_nodes == 3
    assert [n.relative_path for n in index.search(cell, 1)] == ["cell", "a", "b"]
    index.remove("a")
    assert [n.relative_path for n in index.search(cell, 1)] == ["cell", "b"]


def test_a_part_of_another_dimension_is_refused_and_nothing_is_added(index):
    index.add("a", random_vectors(1)[0], order=0)
    with pytest.raises(IndexMismatch, match="32 dimensions"):
        index.change().add(Entry(1, "b"), random_vectors(1)[0], parts=[random_vectors(1, d=32)[0]])
    assert len(index) == 1


def test_nothing_shows_before_apply_and_a_dropped_change_leaves_no_trace(index):
    a, b = random_vectors(2)
    index.add("a", a, order=0)
    change = index.change()
    change.add(Entry(1, "b"), b)
    change.remove("a")
    assert [n.relative_path for n in change.search(a, 10)] == ["b"]
    assert [n.relative_path for n in index.search(a, 10)] == ["a"]
    assert index.entry("b") is None


def test_a_replaced_image_is_never_its_own_neighbor(index):
    old, new = random_vectors(2)
    index.add("a", old, order=0)
    change = index.change()
    change.remove("a")
    assert change.search(unit(old + 0.1 * new), 10) == []
    change.add(Entry(1, "a"), new)
    change.apply()
    assert len(index) == 1
    assert index.search(new, 1)[0].score == pytest.approx(1.0, abs=1e-6)
    assert index.search(old, 1)[0].score < 0.9


def test_a_mismatched_vector_or_model_is_refused(index):
    index.add("a", random_vectors(1)[0], order=0, model="one")
    with pytest.raises(IndexMismatch, match="32 dimensions"):
        index.search(random_vectors(1, d=32)[0], 1)
    with pytest.raises(IndexMismatch, match="model two"):
        index.add("b", random_vectors(1)[0], order=1, model="two")
    with pytest.raises(IndexMismatch, match="not finite"):
        index.add("b", np.full(64, np.nan, np.float32), order=1)
    with pytest.raises(IndexMismatch, match="zero"):
        index.search(np.zeros(64, np.float32), 1)
    assert len(index) == 1


def test_another_distance_type_is_refused_at_once():
    with pytest.raises(ValueError, match="DISTANCE_TYPE is 'Hamming'"):
        IndexConfig(distance_type="Hamming")
    with pytest.raises(ValueError, match="INDEX_ENGINE is 'Annoy'"):
        IndexConfig(engine="Annoy")
    with pytest.raises(ValueError, match="USearch, which does not know the DISTANCE_TYPE L1"):
        IndexConfig(distance_type="L1", engine="USearch")


@pytest.mark.parametrize("engine", INDEX_ENGINES)
def test_a_graph_that_forgot_most_of_its_nodes_still_finds_the_nearest(engine, tmp_path: Path, monkeypatch):
    """Nodes are used again, also those that were free when it was saved."""
    monkeypatch.setattr(usearch_graph, "FEW", 0)
    config = IndexConfig(engine=engine)
    graph = open_graph(tmp_path / "first", config)
    vectors = random_vectors(900)
    nodes = [graph.insert(vector) for vector in vectors[:600]]
    graph.build()
    for node in nodes[50:]:
        graph.remove(node)
    graph.copy_to(tmp_path / "saved")
    graph.close()
    graph = open_graph(tmp_path / "saved", config, 64)
    later = [graph.insert(vector) for vector in vectors[600:]]
    graph.build()
    assert max(later) < 600
    held = dict(zip([*nodes[:50], *later], [*vectors[:50], *vectors[600:]], strict=True))
    assert len(held) == 350
    found = 0
    for node, vector in held.items():
        assert graph.vector(node) == pytest.approx(vector, abs=1e-3)
        hits = graph.search(vector, 10)
        assert hits[0][0] == node
        assert hits[0][1] == pytest.approx(1, abs=1e-4)
        truth = sorted(held, key=lambda other: -float(held[other] @ vector))[:10]
        found += len({hit for hit, _ in hits} & set(truth))
    assert found >= 0.99 * 10 * len(held)
    graph.close()


def test_save_and_load_keep_everything(index, tmp_path: Path):
    vectors = random_vectors(300)
    change = index.change()
    for order, vector in enumerate(vectors):
        change.add(
            Entry(order, f"ü {order}.jpg", announced=order * 7, digest=bytes([order % 256]) * 32), vector, model="m"
        )
    change.add(Entry(300, "copy", digest=b""), vectors[0])
    change.add(Entry(301, "collage"), random_vectors(1, seed=4)[0], parts=[vectors[7], *random_vectors(2, seed=5)])
    change.apply()
    index.remove("ü 5.jpg")
    saved = tmp_path / "snapshot"
    index.save(saved, {"offset": 17})
    again, info = Index.load(saved, index.config)
    assert info == {"offset": 17}
    assert sorted(again.entries()) == sorted(index.entries())
    assert again.model == "m"
    for query in (*random_vectors(20, seed=3), vectors[7], *random_vectors(2, seed=5)):
        assert again.search(query, 5) == index.search(query, 5)
    again.add("new", random_vectors(1, seed=9)[0], order=400)
    assert "new" in again
    untouched = Index.load(saved, index.config)[0]
    assert "new" not in untouched
    untouched.close()
    with pytest.raises(FileExistsError):
        index.save(saved)
    with pytest.raises(IndexMismatch, match="DISTANCE_TYPE"):
        Index.load(saved, IndexConfig(distance_type="L2", engine=index.config.engine))
    other = next(engine for engine in INDEX_ENGINES if engine != index.config.engine)
    with pytest.raises(IndexMismatch, match=f"INDEX_ENGINE {index.config.engine}, not {other}"):
        Index.load(saved, IndexConfig(engine=other))
    (saved / "entries.npz").write_bytes(b"PK broken")
    with pytest.raises(IndexMismatch, match="cannot be read"):
        Index.load(saved)
    again.close()


SHOWN = st.lists(st.integers(0, 5), min_size=1, max_size=3)
"""Which of six vectors an image has: that of the whole, then those of its parts."""
STEPS = st.lists(st.tuples(st.sampled_from(["add", "remove", "apply", "drop"]), st.integers(0, 7), SHOWN), max_size=40)


@pytest.mark.parametrize("engine", INDEX_ENGINES)
@settings(max_examples=40, deadline=None)
@given(steps=STEPS)
def test_any_sequence_of_changes_agrees_with_a_dictionary(engine, steps):
    """Adds, replacements and removals in any order, across applied and dropped changes: the same images remain, each
    found at its own vector, and a search never returns one that is gone."""
    pool = random_vectors(6, d=16)
    index = Index(IndexConfig(engine=engine))
    committed: dict[str, set[int]] = {}
    pending: dict[str, set[int]] = {}
    change = index.change()
    for order, (step, name, shown) in enumerate(steps):
        path = f"{name}.jpg"
        match step:
            case "add":
                whole, *parts = (pool[n] for n in shown)
                change.add(Entry(order, path, digest=bytes(shown).ljust(32, b"-")), whole, parts=parts)
                pending[path] = set(shown)
            case "remove":
                change.remove(path)
                pending.pop(path, None)
            case "apply":
                change.apply()
                committed = dict(pending)
                change = index.change()
            case "drop":
                pending = dict(committed)
                change = index.change()
        for held, view in ((pending, change), (committed, index)):
            for number, query in enumerate(pool):
                mine = {p for p, vectors in held.items() if number in vectors}
                hits = view.search(query, 6)
                assert {h.relative_path for h in hits} <= held.keys()
                exact = [h.relative_path for h in hits if h.score > 0.9999]
                assert set(exact) <= mine
                assert len(exact) == len(set(exact)) == min(len(mine), MAX_PER_NODE)
        assert {e.relative_path for e in index.entries()} == committed.keys()
    index.close()


BATCHES = st.lists(
    st.lists(st.tuples(st.sampled_from(["add", "remove"]), st.integers(0, 7), st.integers(0, 5)), max_size=6),
    max_size=6,
)


@pytest.mark.parametrize("engine", INDEX_ENGINES)
@settings(max_examples=40, deadline=None)
@given(batches=BATCHES)
def test_looking_ahead_changes_nothing_but_the_time(engine, batches):
    """Also where an equal fingerprint left, or came, in the same change."""
    pool = random_vectors(6, d=16)
    one, other = (Index(IndexConfig(engine=engine)) for _ in range(2))
    for number, batch in enumerate(batches):
        changes = one.change(), other.change()
        changes[0].look_ahead([*pool, pool[0][:3], np.zeros(16, np.float32)])
        for change in changes:
            for step, name, shown in batch:
                if step == "add":
                    change.add(Entry(number, f"{name}.jpg"), pool[shown])
                else:
                    change.remove(f"{name}.jpg")
            change.apply()
        assert one.nb_nodes == other.nb_nodes
        for query in pool:
            assert one.search(query, 6) == other.search(query, 6)
    one.close()
    other.close()
