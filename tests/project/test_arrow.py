"""Imports point one way between the rooms and their sub-rooms, without circles; files are short, class names unique."""

import ast
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parents[2]
OURS = {"imagetools", "schemas", "local_kafka", "streams", "http_bridge", "cli", "training", "bench", "examples"}

ROOMS = {
    "imagetools": {"imagetools"},
    "schemas": {"schemas", "imagetools"},
    "local_kafka": {"local_kafka", "imagetools"},
    "streams": {"streams", "schemas", "imagetools"},
    "http_bridge": {"http_bridge", "streams", "schemas", "imagetools"},
    "training": {"training", "imagetools"},
    "cli": OURS - {"bench", "examples"},
    "bench": OURS,
    "examples": set(),
}
"""Which of our rooms each may import."""

SUB_ROOMS = {
    "imagetools": set(),
    "imagetools.fingerprint": {"imagetools"},
    "imagetools.features": {"imagetools"},
    "imagetools.grouping": {"imagetools"},
    "imagetools.index": {"imagetools"},
    "imagetools.matching": {"imagetools", "imagetools.features"},
}
"""Which other rooms of the library each of its rooms may import; "imagetools" is the files at its top."""

STREAM_BASE = {"streams.config", "streams.topics", "streams.stage"}
"""The files at the top of streams that all of its rooms may import."""

STREAM_ROOMS = {
    "streams.sharding": set(),
    "streams.traces": {"streams.settings"},
    "streams.grouping": {"streams.pair_evidence", "streams.standing_decisions"},
    "streams.kafka": {"streams.permissions", "streams.sharding", "streams.traces"},
    "streams.watching": {"streams.kafka"},
    "streams.search": {"streams.kafka", "streams.sharding"},
    "streams.requests": {"streams.kafka", "streams.sharding", "streams.traces"},
    "streams.deduping": {"streams.kafka", "streams.requests", "streams.grouping", "streams.traces"},
}
"""Which other rooms, and which more files at the top, each room of streams may import."""

MAX_LINES = 300
LIBRARIES = {
    "imagetools": {
        "numpy",
        "torch",
        "torchvision",
        "ngtpy",
        "cv2",
        "PIL",
        "pillow_heif",
        "openvino",
        "platformdirs",
        "usearch",
        "cachetools",
        "obstore",
        "urllib3",
    },
    "schemas": {"numpy", "fastavro", "msgspec", "confluent_kafka"},
}
"""What else the inner rooms may import, beside the standard library."""

PILLOW_ALONE = (
    "decode.py", "edits.py", "errors.py", "folder.py", "folder_storage.py", "formats.py", "frames.py", "image_root.py",
    "logs.py", "object_keys.py", "object_storage.py", "opener.py", "overlays.py", "paths.py", "pixel_modes.py",
    "places.py", "storage.py", "web_storage.py",
)  # fmt: skip
"""What a process without torch, NGT and OpenCV may load of the library."""


def modules(room: str) -> list[Path]:
    # __main__ is the command line's door, where everything is put together
    return [path for path in sorted((HERE / room).rglob("*.py")) if path != HERE / "imagetools" / "__main__.py"]


def imports(path: Path) -> Iterator[str]:
    """The dotted name of everything that a file imports, at its top or inside a function."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: imports are written out, so that this test can read them"
            yield from (f"{node.module}.{name.name}" for name in node.names)


def tops(path: Path) -> set[str]:
    return {name.split(".")[0] for name in imports(path)}


def present(room: str) -> str:
    if not modules(room):
        pytest.fail(f"no module in {room}/")
    return room


@pytest.mark.parametrize("room", [room for room in ROOMS if (HERE / room).is_dir()])
def test_a_room_imports_only_rooms_that_the_arrow_points_to(room):
    for path in modules(present(room)):
        assert not (tops(path) & OURS) - ROOMS[room], path


@pytest.mark.parametrize("room", LIBRARIES)
def test_an_inner_room_imports_only_its_own_libraries(room):
    for path in modules(present(room)):
        assert not tops(path) - LIBRARIES[room] - ROOMS[room] - set(sys.stdlib_module_names), path


def module_name(path: Path) -> str:
    return ".".join(path.relative_to(HERE).with_suffix("").parts).removesuffix(".__init__")


def all_modules() -> dict[str, Path]:
    return {module_name(path): path for room in ROOMS if (HERE / room).is_dir() for path in modules(room)}


def import_graph() -> dict[str, set[str]]:
    """The modules of ours that each module imports, at its top or inside a function."""
    known = all_modules()
    graph: dict[str, set[str]] = {}
    for name, path in known.items():
        graph[name] = set()
        for found in imports(path):
            imported = found
            while imported and imported not in known:
                imported = imported.rpartition(".")[0]
            if imported and imported != name:
                graph[name].add(imported)
    return graph


def sub_room(module: str) -> str:
    """The room of a module, and the folder below it, if any."""
    folder = module if (HERE / module.replace(".", "/")).is_dir() else module.rpartition(".")[0]
    return ".".join(folder.split(".")[:2])


def test_the_librarys_rooms_import_only_what_the_arrow_points_to():
    graph = import_graph()
    # the package itself offers the public names of its rooms, and loads them when they are used
    graph.pop("imagetools")
    for module, imported in graph.items():
        room = sub_room(module)
        if room in SUB_ROOMS:
            rooms = {sub_room(one) for one in imported if one.startswith("imagetools.")}
            assert rooms - {room} <= SUB_ROOMS[room], module


def test_the_streams_rooms_import_only_what_the_arrow_points_to():
    rooms = {".".join(path.relative_to(HERE).parts) for path in (HERE / "streams").iterdir() if any(path.glob("*.py"))}
    assert rooms == set(STREAM_ROOMS)
    for module, imported in import_graph().items():
        if (room := sub_room(module)) in STREAM_ROOMS:
            ours = {one for one in imported if one.startswith("streams.")} - STREAM_BASE
            reached = {sub_room(one) if sub_room(one) != "streams" else one for one in ours}
            assert reached - {room} <= STREAM_ROOMS[room], module


def test_the_command_lines_rooms_import_none_of_each_other():
    rooms = {"cli.announcing", "cli.report", "cli.supervising"}
    for module, imported in import_graph().items():
        if (room := sub_room(module)) in rooms:
            assert {sub_room(one) for one in imported if one.startswith("cli.")} <= {room, "cli"}, module


def test_no_files_import_each_other_in_a_circle():
    try:
        TopologicalSorter(import_graph()).prepare()
    except CycleError as exc:
        pytest.fail(" → ".join(exc.args[1]))


def test_no_file_imports_a_private_name_of_another():
    for module, path in all_modules().items():
        for name in imports(path):
            first, *rest = name.split(".")
            private = [part for part in rest if part.startswith("_") and not part.startswith("__")]
            assert first not in OURS or not private, (module, name)


def test_no_two_classes_have_one_name():
    places = defaultdict(list)
    for module, path in all_modules().items():
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.ClassDef):
                places[node.name].append(module)
    assert {name: where for name, where in places.items() if len(where) > 1} == {}


def test_files_are_short():
    lengths = {
        path.relative_to(HERE).as_posix(): len(path.read_text("utf-8").splitlines()) for path in all_modules().values()
    }
    assert {name: length for name, length in lengths.items() if length > MAX_LINES} == {}


def test_schemas_take_nothing_but_errors_and_the_words_of_groups_from_the_library():
    for path in modules("schemas"):
        ours = {name for name in imports(path) if name.startswith("imagetools")}
        allowed = ("imagetools.errors", "imagetools.grouping.records")
        assert all(name.startswith(allowed) for name in ours), (path, ours)


def test_decoding_needs_pillow_alone():
    for name in PILLOW_ALONE:
        path = HERE / "imagetools" / name
        stores = {"object_storage.py": {"obstore"}, "web_storage.py": {"urllib3"}}.get(name, set())
        assert not tops(path) - {"PIL", "pillow_heif", "imagetools"} - stores - set(sys.stdlib_module_names), path
        inner = {n.split(".")[1] for n in imports(path) if n.startswith("imagetools.")}
        assert {f"{module}.py" for module in inner} <= set(PILLOW_ALONE), path


def test_no_consumer_imports_another():
    consumers = sorted((HERE / "streams").glob("*_consumer.py"))
    names = [path.stem for path in consumers]
    assert names == ["encoder_consumer", "grouping_consumer", "matcher_consumer", "search_consumer"]
    for path in consumers:
        assert not [name for name in imports(path) if name.split(".")[1:2] and "_consumer" in name.split(".")[1]], path
    for path in set(modules("streams")) - set(consumers):
        assert not [name for name in imports(path) if "_consumer" in name], path


def test_the_environment_is_read_in_one_file_of_the_stream():
    readers = {
        path.name
        for room in ("imagetools", "schemas", "local_kafka", "streams")
        for path in modules(room)
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Attribute) and node.attr in ("environ", "getenv")
    }
    # a broker of one's own is started with the environment of its starter, which no setting is read from
    assert readers - {"process.py", "broker.py", "registry.py", "container.py"} == {"config.py"}


LOADED = "import sys; {}; print(*sorted({{name.split('.')[0] for name in sys.modules}}))"


def loaded_by(statement: str) -> set[str]:
    run = subprocess.run(
        [sys.executable, "-c", LOADED.format(statement)], check=True, capture_output=True, text=True, cwd=HERE
    )
    return set(run.stdout.split())


def test_the_library_loads_neither_kafka_nor_http():
    loaded = loaded_by(
        "import imagetools, imagetools.matching.verify, imagetools.fingerprint.networks, imagetools.index.index, "
        "imagetools.index.ngt_graph, imagetools.index.usearch_graph"
    )
    assert {"torch", "cv2", "ngtpy", "usearch"} <= loaded
    assert not loaded & {"confluent_kafka", "aiohttp", "fastavro", "schemas", "streams", "cli", "click", "rich"}


def test_the_fingerprint_loads_no_torch_before_it_is_needed():
    assert "torch" not in loaded_by("import imagetools.fingerprint.encoder, imagetools.fingerprint.engines")


def test_a_folder_of_images_loads_no_client_of_stores():
    loaded = loaded_by("import pathlib, imagetools.image_root as found; found.ImageRoot(pathlib.Path('/'))")
    assert "PIL" in loaded
    assert not loaded & {"obstore", "urllib3", "numpy"}


def test_decoding_loads_neither_torch_nor_opencv_nor_ngt():
    loaded = loaded_by("import imagetools.decode")
    assert "PIL" in loaded
    assert not loaded & {"torch", "cv2", "ngtpy", "usearch", "numpy"}


def test_without_traces_nothing_of_opentelemetry_is_loaded():
    loaded = loaded_by(
        "import http_bridge.server, cli.produce, streams.encoder_consumer, streams.search_consumer, "
        "streams.matcher_consumer, streams.grouping_consumer, streams.traces.start; "
        "from streams.traces.config import TracesConfig; "
        "from streams.config import BridgeConfig, Config; Config.from_env({}), BridgeConfig.from_env({}); "
        "streams.traces.start.traced(TracesConfig(), 'encoder').__enter__()"
    )
    assert {"aiohttp", "confluent_kafka"} <= loaded
    assert "opentelemetry" not in loaded


def test_help_loads_nothing_heavy():
    loaded = loaded_by("import cli.main")
    assert not loaded & {"torch", "cv2", "ngtpy", "usearch", "confluent_kafka", "aiohttp"}
