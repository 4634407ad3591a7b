"""Imports point one way: pure modules, interfaces, stores and wire, web, daemons and commands."""

from __future__ import annotations

import ast
import subprocess
import sys
from configparser import ConfigParser
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

#: Each layer may import from itself and from those above it in this list.
LAYERS = (
    ("__init__", "errors"),
    ("model",),
    ("interfaces",),
    ("aio", "files"),
    ("monitoring",),
    ("http",),
    ("auth",),
    ("transfer", "scrub"),
    ("stores",),
    ("resumable",),
    ("web", "replication"),
    ("collection",),
    ("daemon",),
    ("tap", "cli"),
)
MODULES = sorted(path.relative_to(ROOT) for path in (ROOT / "sos").rglob("*.py"))
#: Pure modules outside of sos/model/.
PURE = (Path("sos/replication/plan.py"),)


def layer_of(module: str) -> int:
    name = ([*module.split("."), "__init__"])[1].replace("__version__", "__init__")
    return next(number for number, names in enumerate(LAYERS) if name in names)


def imports_of(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse((ROOT / path).read_text())):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports by a relative name"
            found.update(f"{node.module}.{alias.name}" for alias in node.names)
    return found


@pytest.mark.parametrize("path", MODULES, ids=str)
def test_imports_point_one_way(path):
    """No module imports from a layer below its own."""
    own = layer_of(".".join(path.with_suffix("").parts))
    for name in imports_of(path):
        if name.split(".")[0] == "sos":
            assert layer_of(name) <= own, f"{path} imports {name}"


@pytest.mark.parametrize("path", MODULES, ids=str)
def test_pure_modules_know_neither_twisted_nor_files(path):
    """They compute, and that is all."""
    if path.parts[1] in ("model", "errors.py") or path in PURE:
        foreign = {name.split(".")[0] for name in imports_of(path)}
        assert not foreign & {"twisted", "treq", "klein", "os", "pathlib", "io", "socket"}


@pytest.mark.parametrize("path", MODULES, ids=str)
def test_only_daemons_and_commands_touch_the_global_reactor(path):
    """Everything else is given its clock."""
    if path.parts[1] not in ("daemon", "tap", "cli"):
        assert "twisted.internet.reactor" not in imports_of(path)


@pytest.mark.parametrize("path", MODULES, ids=str)
def test_web_knows_stores_by_their_interface(path):
    """A face serves any store."""
    if path.parts[1] in ("web", "replication", "collection", "scrub.py"):
        assert not any(name.startswith("sos.stores") for name in imports_of(path))


def test_a_blob_server_loads_nothing_that_speaks_to_others():
    """It answers, and asks nobody."""
    program = [sys.executable, "-c", "import sys, sos.tap.blob; print(*sys.modules)"]
    loaded = set(subprocess.check_output(program, cwd=ROOT, text=True).split())
    assert "sos.tap.blob" in loaded
    assert not loaded & {
        "treq",
        "sos.stores.remote.client",
        "sos.stores.replicated.store",
        "sos.replication",
    }


def test_every_package_is_installed():
    """What setup.cfg leaves out is there in a checkout, and missing from the wheel."""
    setup = ConfigParser()
    setup.read(ROOT / "setup.cfg")
    listed = [name for name in setup["options"]["packages"].split() if name.startswith("sos")]
    there = {".".join(path.parent.parts) for path in MODULES if path.name == "__init__.py"}
    assert sorted(listed) == sorted(there)
