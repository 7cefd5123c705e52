"""A recipe that is wrong says so before anything is computed."""

import pytest

from workers.errors import RecipeError
from workers.training import recipe, train

GOOD = """
name = "tiny"
version = "1"
seed = 1
bins = 20
z_max = 6.0
[data]
galaxies = 1
quasars = 1
[pretraining]
epochs = 1
[finetuning]
epochs = 1
epoch_rows = 1
"""


def test_a_toml_file_is_read(tmp_path):
    (tmp_path / "tiny.toml").write_text(GOOD)
    found = recipe.load(tmp_path / "tiny.toml")
    assert (found.name, found.bins, found.finetuning.epoch_rows) == ("tiny", 20, 1)
    assert recipe.load(str(tmp_path / "tiny.toml")) == found


def test_the_shipped_recipe_is_read_by_its_name():
    assert recipe.load("first-light").name == "astromae-first-light"


@pytest.mark.parametrize("name", ["second-light", "absent.toml"])
def test_an_unknown_recipe_is_told_which_are_shipped(name, tmp_path):
    with pytest.raises(RecipeError, match=f"no recipe {name}.*first-light"):
        train(name, tmp_path, tmp_path / "out")
    assert not (tmp_path / "out").exists()


WRONG = {
    "a key too many": (GOOD + "rows = 3\n", "finetuning.rows"),
    "a misspelt key": (GOOD.replace("bins", "bin"), "bins"),
    "a missing part": (GOOD.replace("[pretraining]\nepochs = 1\n", ""), "pretraining"),
    "a number that is a word": (GOOD.replace("seed = 1", 'seed = "one"'), "seed"),
    "not TOML": (GOOD + "[[", "tiny.toml"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_key_is_named_with_the_file(case, tmp_path):
    text, named = WRONG[case]
    (tmp_path / "tiny.toml").write_text(text)
    with pytest.raises(RecipeError, match=named) as caught:
        train(tmp_path / "tiny.toml", tmp_path, tmp_path / "out")
    assert str(tmp_path / "tiny.toml") in str(caught.value)
