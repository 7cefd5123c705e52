"""A recipe that is wrong says so before anything is computed."""

import pytest

from workers.errors import RecipeError
from workers.training import recipe
from workers.training.run import train

GOOD = """
name = "tiny"
version = "1"
seed = 1
softening = [0.2, 0.1, 0.1, 0.1, 0.5]
[pretraining]
labelled = ["some.npz"]
epochs = 1
[finetuning]
sources = [{ data = "some.npz", share = 1.0 }]
epochs = 1
epoch_rows = 1
"""


def test_a_toml_file_is_read(tmp_path):
    (tmp_path / "tiny.toml").write_text(GOOD)
    found = recipe.load(tmp_path / "tiny.toml")
    assert (found.name, found.finetuning.epoch_rows, found.domain) == ("tiny", 1, None)
    assert recipe.load(str(tmp_path / "tiny.toml")) == found


@pytest.mark.parametrize("name", ["encoder", "galaxies", "quasars"])
def test_a_shipped_recipe_is_read_by_its_name(name):
    assert recipe.load(name).name == f"astromae-{name}"


def test_both_shipped_models_see_the_pixels_that_their_encoder_has_seen():
    encoder, galaxies, quasars = (recipe.load(each) for each in ("encoder", "galaxies", "quasars"))
    assert encoder.softening == galaxies.softening == quasars.softening
    # The split is made by the seed: with another, the encoder would have seen held-out rows.
    assert encoder.seed == galaxies.seed == quasars.seed


@pytest.mark.parametrize("name", ["second-light", "absent.toml"])
def test_an_unknown_recipe_is_told_which_are_shipped(name, tmp_path):
    with pytest.raises(RecipeError, match=f"no recipe {name}.*encoder, galaxies, quasars"):
        train(name, tmp_path, tmp_path / "out")
    assert not (tmp_path / "out").exists()


HEAD = GOOD.split("[pretraining]", maxsplit=1)[0]

WRONG = {
    "a key too many": (GOOD + "rows = 3\n", "finetuning.rows"),
    "a misspelt key": (GOOD.replace("softening", "soft"), "softening"),
    "a band too few": (GOOD.replace("[0.2, ", "["), "softening"),
    "a number that is a word": (GOOD.replace("seed = 1", 'seed = "one"'), "seed"),
    "no epochs": (GOOD.replace("epochs = 1", "epochs = 0"), "pretraining.epochs"),
    "not TOML": (GOOD + "[[", "tiny.toml"),
    "nothing to do": (HEAD, "neither pretraining nor finetuning"),
    "no encoder": (
        HEAD + "[finetuning]" + GOOD.split("[finetuning]")[1],
        "--encoder",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_key_is_named_with_the_file(case, tmp_path):
    text, named = WRONG[case]
    (tmp_path / "tiny.toml").write_text(text)
    with pytest.raises(RecipeError, match=named) as caught:
        train(tmp_path / "tiny.toml", tmp_path, tmp_path / "out")
    assert str(tmp_path / "tiny.toml") in str(caught.value)
