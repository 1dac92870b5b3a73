"""The rooms of the house: who may import whom, and what stays unloaded until it is needed."""

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
ROOMS = ("embedders", "storage", "evaluation", "flows", "polyvec")
HEAVY = {"torch", "torch_geometric", "torchvision", "numba", "prefect", "dask", "distributed", "sklearn", "matplotlib"}


def loaded_after(code):
    """Top-level packages that a fresh Python has loaded after running `code`."""
    code += "\nimport json, sys; print(json.dumps(sorted({name.partition('.')[0] for name in sys.modules})))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, timeout=120)
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout.splitlines()[-1]))


def imported(path):
    """Top-level packages that a module imports anywhere, also inside functions and by name."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield (node.module or "").partition(".")[0]
        elif isinstance(node, ast.Call) and ast.unparse(node.func).rpartition(".")[2] in {
            "import_module",
            "__import__",
        }:
            if node.args and isinstance(node.args[0], ast.Constant):
                yield str(node.args[0].value).partition(".")[0]


def modules(*rooms):
    return [path for room in rooms for path in sorted((ROOT / room).rglob("*.py"))]


def test_the_walk_sees_imports():
    assert "prefect" in {name for path in modules("flows") for name in imported(path)}
    assert "numba" in {name for path in modules("embedders") for name in imported(path)}


@pytest.mark.parametrize("package", ["prefect", "dask", "distributed", "prefect_dask"])
def test_only_flows_imports_the_engine(package):
    guilty = [
        str(path) for path in modules("embedders", "storage", "evaluation", "polyvec") if package in imported(path)
    ]
    assert not guilty


@pytest.mark.parametrize(
    ("room", "may"),
    [
        ("embedders", {"embedders"}),
        ("storage", {"storage", "embedders"}),
        ("evaluation", {"evaluation", "embedders"}),
        ("flows", set(ROOMS) - {"polyvec"}),
    ],
)
def test_a_room_imports_only_what_lies_below(room, may):
    strange = {(str(path), name) for path in modules(room) for name in imported(path) if name in set(ROOMS) - may}
    assert not strange


def test_import_linter_agrees():
    code = "from importlinter.cli import lint_imports; import sys; sys.exit(lint_imports(no_cache=True))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 kept, 0 broken" in done.stdout


def test_help_loads_nothing_heavy():
    code = """
import sys
sys.argv = ["polyvec", "--help"]
from flows.cli.main import main
try:
    main()
except SystemExit as leave:
    assert not leave.code, leave.code
"""
    loaded = loaded_after(code)
    assert not loaded & HEAVY
    assert "typer" in loaded and "flows" in loaded


def test_a_run_with_nothing_to_do_loads_nothing_heavy(tmp_path):
    from tests.helpers_store import run_steps, write_project

    file = write_project(tmp_path)
    run_steps(file)
    code = f"""
import sys
from flows.cli.main import app
sys.argv = ["polyvec", "run", "-f", {str(file)!r}]
try:
    app()
except SystemExit as leave:
    assert not leave.code, leave.code
"""
    loaded = loaded_after(code)
    assert not loaded & HEAVY
    assert "networkx" in loaded  # it did plan


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_loads_nothing_heavy(room):
    loaded = loaded_after(f"import {room}")
    assert not loaded & HEAVY
    assert room in loaded


@pytest.mark.parametrize(
    "module",
    [
        "embedders.base", "embedders.registry", "embedders.testing", "embedders.text.word2vec",
        "embedders.graph.node2vec", "embedders.image.cnn", "storage.store", "storage.inputs.specs", "flows.pipeline",
    ],
)  # fmt: skip
def test_a_recipe_or_a_pipeline_loads_no_engine(module):
    """Choosing parameters, planning and reading must not pay for compilers, networks or servers."""
    assert not loaded_after(f"import {module}") & (HEAVY | {"pytest"})


def test_the_facade_gives_its_names_when_asked():
    loaded = loaded_after("import polyvec; polyvec.VectorStore, polyvec.Pipeline, polyvec.Embedder")
    assert not loaded & HEAVY
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = __import__("polyvec").nothing
