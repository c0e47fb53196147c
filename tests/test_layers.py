"""Imports run one way: errors <- data <- {extract, head} <- explain <- commands <- cli."""

import ast
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import gcf

ROOT = Path(gcf.__file__).parent
MAY_IMPORT = {
    "errors": set(),
    "_version": set(),
    "signals": set(),
    "terminal": {"errors", "data", "signals"},
    "data": {"errors", "data", "_version"},
    "extract": {"errors", "data", "extract", "_version"},
    "head": {"errors", "data", "head", "_version"},
    "explain": {"errors", "data", "extract", "head", "explain", "_version"},
    "commands": {"errors", "data", "extract", "head", "explain", "commands", "terminal", "signals", "_version"},
}


def imported(path: Path) -> set[str]:
    """The floors of gcf that a file imports anywhere, late imports included."""
    names = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            names += [f"{node.module}.{alias.name}" for alias in node.names] if node.module == "gcf" else [node.module]
    return {name.split(".")[1] for name in names if name.startswith("gcf.")}


@pytest.mark.slow
@pytest.mark.parametrize("floor", MAY_IMPORT)
def test_imports_run_one_way(floor):
    files = [ROOT / f"{floor}.py"] if (ROOT / f"{floor}.py").exists() else sorted((ROOT / floor).rglob("*.py"))
    assert files
    for path in files:
        assert imported(path) <= MAY_IMPORT[floor], path


ROOMS = {  # each room may import those before it on its own floor; "" are the files of the floor itself
    "head": ["models", "fitting", "trials", "tables", "", "report"],
    "extract": ["decoding", "weights", "backbones", "network", "stream", "engines", ""],
    "explain": ["reading", "drawing", "measures", "files", "pages", "doctor", ""],
}


def room_of(module: str, rooms: list[str]) -> str:
    """The room of a module of a floor, "" for a file of the floor itself."""
    parts = module.split(".")
    return parts[2] if len(parts) > 2 and parts[2] in rooms else ""


@pytest.mark.slow
@pytest.mark.parametrize("floor", ROOMS)
def test_imports_between_the_rooms_of_a_floor_run_one_way(floor):
    order = ROOMS[floor]
    for path in sorted((ROOT / floor).rglob("*.py")):
        here = room_of(".".join(("gcf", *path.relative_to(ROOT).with_suffix("").parts)), order)
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and node.module.startswith(f"gcf.{floor}"):
                there = {room_of(f"{node.module}.{alias.name}", order) for alias in node.names}
                assert all(order.index(room) <= order.index(here) for room in there), f"{path}: {node.module}"


def modules_imported(path: Path, modules: set[str]) -> set[str]:
    """The modules of gcf that a file imports anywhere, those for types alone left out."""
    tree = ast.parse(path.read_text())
    for_types: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            for_types |= {id(inner) for inner in ast.walk(node)}
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and id(node) not in for_types:
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                found.add(full if full in modules else node.module)
    return found & modules


@pytest.mark.slow
def test_no_import_comes_round_to_where_it_began():
    paths = {}
    for path in ROOT.rglob("*.py"):
        name = ".".join(("gcf", *path.relative_to(ROOT).with_suffix("").parts))
        paths[name.removesuffix(".__init__")] = path
    graph = {name: modules_imported(path, set(paths)) - {name} for name, path in paths.items()}
    assert sum(map(len, graph.values())) > 500
    TopologicalSorter(graph).prepare()  # raises CycleError with the way round


@pytest.mark.slow
def test_a_class_name_stands_once_in_the_package():
    places = {}
    for path in sorted(ROOT.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                places.setdefault(node.name, []).append(str(path))
    assert {name: found for name, found in places.items() if len(found) > 1} == {}


@pytest.mark.slow
def test_no_test_file_imports_another():
    tests = Path(__file__).parent
    for path in tests.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom):
                assert not (node.module or "").startswith("test_"), path


@pytest.mark.slow
def test_the_data_floor_knows_no_network():
    for path in (ROOT / "data").rglob("*.py"):
        names = {alias.name for node in ast.walk(ast.parse(path.read_text())) for alias in getattr(node, "names", ())}
        modules = {getattr(node, "module", None) for node in ast.walk(ast.parse(path.read_text()))}
        assert not any(str(name).split(".")[0] in ("torch", "torchvision") for name in names | modules), path


@pytest.mark.slow
@pytest.mark.parametrize(
    "command", ["import gcf, gcf.cli", "import gcf.extract.decoding.worker", "import gcf.data.features"]
)
def test_torch_is_not_loaded_before_it_is_needed(command):
    check = f"{command}; import sys; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", check], check=True)


@pytest.mark.slow
def test_help_loads_no_torch():
    check = (
        "import sys, gcf.cli\ntry: gcf.cli.main(['--help'])\nexcept SystemExit: pass\nsys.exit('torch' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", check], check=True, stdout=subprocess.DEVNULL)


# What is promised so far.
PROMISED = (
    "load_backbone extract_videos FeatureFile join_features export_features merge_features verify_features "
    "diff_features train_head load_head load_ensemble evaluate_head ablate compare_features transfer_head check_head "
    "export_onnx diagnose write_report localize_videos stream_predictions watch_predictions write_pages "
    "GCFClassifier predict_videos write_demo_videos run_demo GcfError __version__"
).split()


@pytest.mark.parametrize("name", PROMISED)
def test_every_promised_name_is_there(name):
    assert getattr(gcf, name) is not None
    assert name in dir(gcf)


def test_no_file_is_too_long_to_be_one_idea():
    for path in ROOT.rglob("*.py"):
        assert len(path.read_text().splitlines()) <= 400, path
