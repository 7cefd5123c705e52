"""Imports run downwards only, and what the function image carries stays free of the rest."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ROOMS = {"dispatcher", "ingest", "workers", "fmi", "sinks"}
MAY_USE = {
    "dispatcher": {"ingest", "workers", "sinks", "fmi"},
    "workers": {"fmi"},
    "ingest": set(),
    "sinks": set(),
    "fmi": set(),
}


def imported(path):
    """Top-level names of everything that a file imports, wherever in it."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield node.module.split(".")[0]


@pytest.mark.parametrize("room", sorted(ROOMS))
def test_imports_run_downwards(room):
    for path in (ROOT / room).rglob("*.py"):
        foreign = (set(imported(path)) & ROOMS) - {room} - MAY_USE[room]
        assert not foreign, f"{path.relative_to(ROOT)} imports {foreign}"


def test_message_passing_knows_nothing_of_the_sky():
    for path in (ROOT / "fmi").rglob("*.py"):
        assert not set(imported(path)) & {"astropy", "torch", "aiokafka", "aiobotocore"}


def test_nothing_from_outside_can_run():
    """No pickle is loaded, no shell is started, anywhere in the product."""
    for room in ROOMS:
        for path in (ROOT / room).rglob("*.py"):
            assert not set(imported(path)) & {"pickle", "dill", "joblib", "subprocess"}, path
            for node in ast.walk(ast.parse(path.read_text())):
                if not isinstance(node, ast.Call):
                    continue
                name, given = ast.unparse(node.func), {k.arg: k.value for k in node.keywords}
                if name in ("np.load", "numpy.load", "np.lib.format.read_array"):
                    assert ast.unparse(given["allow_pickle"]) == "False", path
                if name == "torch.load":
                    assert ast.unparse(given["weights_only"]) == "True", path
                assert name not in ("eval", "exec"), path
