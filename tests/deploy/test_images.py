"""The images hold what is needed, and nothing is fetched that was not pinned."""

import re
import subprocess
import sys
import tomllib
from importlib.metadata import distribution, packages_distributions

import pytest
from deployed import DEPLOY, ROOT
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from dispatcher.settings import load

IMAGES = ["function", "dispatcher"]
PINNED = [DEPLOY / "function/requirements.txt", *sorted((DEPLOY / "dispatcher").glob("*.txt"))]

ALONE = """
import sys

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name in {absent!r}:
            raise ModuleNotFoundError(f"{{name}} is not in the image", name=name)

sys.path.insert(0, {root!r})
sys.meta_path.insert(0, Refuse())
import numpy as np
from workers.handler import handler
from workers.shelf import shelf
from workers.wire import IMAGE_SHAPE, MAGNITUDES, Item, encode_items

class Context:
    def get_remaining_time_in_millis(self):
        return 60_000

import awslambdaric.bootstrap
import workers
assert workers.__file__.startswith({root!r}), workers.__file__
items = [Item("a", np.ones(IMAGE_SHAPE, "f4"), np.full(MAGNITUDES, 18.0, "f4"))]
job = {{"weights_sha256": shelf().any()}}
print(handler({{"job": job, "partition": encode_items(items)}}, Context())["verdicts"])
"""


def pins(path):
    """Version and hashes of every requirement of a file."""
    text = "\n".join(each for each in path.read_text().splitlines() if not each.startswith("#"))
    for each in text.replace("\\\n", " ").splitlines():
        wanted, *hashes = each.split(" --hash=")
        yield Requirement(wanted.strip()), [each.strip() for each in hashes]


def instructions(image, word):
    text = (DEPLOY / image / "Dockerfile").read_text().replace("\\\n", " ")
    return [each.split()[1:] for each in text.splitlines() if each.startswith(f"{word} ")]


def context(image):
    """Files that the image's build may see."""
    lines = (DEPLOY / image / "Dockerfile.dockerignore").read_text().splitlines()
    rules = [each for each in lines if each and not each.startswith("#")]
    assert rules[0] == "*"
    taken = {path for each in rules if each[0] == "!" for path in ROOT.glob(each[1:])}
    left = {path for each in rules[1:] if each[0] != "!" for path in ROOT.glob(each)}
    for path in taken:
        for each in path.rglob("*") if path.is_dir() else [path]:
            if each.is_file() and not left & {each, *each.parents}:
                yield each


@pytest.mark.parametrize("image", IMAGES)
def test_every_base_is_a_digest(image):
    (argument,) = instructions(image, "ARG")
    assert re.fullmatch(r"PYTHON=python:3\.11-slim-bookworm@sha256:[0-9a-f]{64}", argument[0])
    assert {each[0] for each in instructions(image, "FROM")} == {"${PYTHON}"}


def test_both_images_have_the_same_base():
    assert instructions("function", "ARG") == instructions("dispatcher", "ARG")


@pytest.mark.parametrize("image", IMAGES)
def test_what_is_copied_is_there_and_may_be_seen(image):
    seen = set(context(image))
    for *sources, _ in instructions(image, "COPY"):
        for source in sources if not sources[0].startswith("--from") else ():
            path = ROOT / source
            assert [each for each in seen if each == path or path in each.parents], source


@pytest.mark.parametrize("image", IMAGES)
def test_nobody_is_root(image):
    assert instructions(image, "USER") == [["10001:10001"]]


@pytest.mark.parametrize("path", PINNED, ids=lambda path: "/".join(path.parts[-2:]))
def test_everything_is_pinned_with_its_hashes(path):
    for requirement, hashes in pins(path):
        assert [each.operator for each in requirement.specifier] == ["=="], requirement
        assert hashes, requirement
        assert all(re.fullmatch(r"sha256:[0-9a-f]{64}", each) for each in hashes)


def test_the_images_agree_and_have_the_release_that_was_tested():
    function, everything = (
        {each.name: str(each.specifier) for each, _ in pins(DEPLOY / image / "requirements.txt")}
        for image in IMAGES
    )
    assert function.items() <= everything.items()
    assert function["openvino"] == f"=={distribution('openvino').version.split('-')[0]}"


def test_the_dispatcher_has_all_that_the_package_asks_for():
    pinned = {
        canonicalize_name(each.name): each
        for each, _ in pins(DEPLOY / "dispatcher/requirements.txt")
    }
    for text in tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]:
        wanted = Requirement(text)
        (version,) = pinned[canonicalize_name(wanted.name)].specifier
        assert wanted.specifier.contains(version.version), text


def test_the_function_needs_nothing_that_is_not_in_its_image(tmp_path):
    """The files of the image answer an invocation, with every other package out of reach."""
    for each in context("function"):
        if each.suffix != ".txt":
            target = tmp_path / each.relative_to(ROOT)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.symlink_to(each)
    listed = {canonicalize_name(each.name) for each, _ in pins(PINNED[0])}
    absent = {
        module
        for module, names in packages_distributions().items()
        if not listed & {canonicalize_name(name) for name in names}
    }
    absent -= {"workers", "fmi"}
    said = subprocess.run(
        [sys.executable, "-I", "-c", ALONE.format(absent=absent, root=str(tmp_path))],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
    )
    assert said.returncode == 0, said.stderr
    assert "'kind'" in said.stdout


def test_the_settings_of_the_image_are_those_of_the_dispatcher():
    names = {each.split("=")[0] for words in instructions("function", "ENV") for each in words}
    assert {"LOOKBACK_WEIGHTS", "LOOKBACK_PRECISION"} <= names
    values = dict(each.split("=") for words in instructions("function", "ENV") for each in words)
    workers = load(None).workers
    assert values["LOOKBACK_WEIGHTS"] == workers.weights
    assert values["LOOKBACK_PRECISION"] == workers.precision
