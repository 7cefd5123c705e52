"""Each module can be the first that is imported."""

import importlib
import pkgutil
import sys

import pytest

import ingest

MODULES = [each.name for each in pkgutil.walk_packages(ingest.__path__, "ingest.")]


@pytest.mark.parametrize("name", MODULES)
def test_a_module_can_be_imported_first(name, monkeypatch):
    for loaded in [each for each in sys.modules if each.split(".")[0] == "ingest"]:
        monkeypatch.delitem(sys.modules, loaded)  # which puts the old one back in the end
    before = set(sys.modules)
    importlib.import_module(name)
    for loaded in set(sys.modules) - before:
        if loaded.split(".")[0] == "ingest":
            del sys.modules[loaded]
