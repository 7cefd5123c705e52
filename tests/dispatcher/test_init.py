"""A settings file to begin with is one that can be begun with."""

import re
import tomllib

import pytest
from typer.testing import CliRunner

from dispatcher import cli
from dispatcher.control import tariff_of
from dispatcher.settings import Settings, load
from dispatcher.settings.commented import Place, commented
from dispatcher.workforce import workforce


@pytest.mark.parametrize("place", list(Place))
def test_it_is_valid_as_it_is(place, tmp_path):
    path = tmp_path / "lookback.toml"
    assert CliRunner().invoke(cli.app, ["init", place, "--to", str(path)]).exit_code == 0
    chosen = load(path)
    tariff_of(chosen)
    workforce(chosen, "run")
    assert chosen != Settings()


@pytest.mark.parametrize("place", list(Place))
def test_what_is_commented_out_is_the_default(place):
    text = re.sub(r"^#(\w+ = .+)$", r"\1", commented(place), flags=re.MULTILINE)
    given, own = tomllib.loads(text), tomllib.loads(commented(place))
    for section, values in Settings.model_validate(given).model_dump().items():
        for key, value in values.items():
            if key not in own.get(section, {}):
                assert value == getattr(getattr(Settings(), section), key), f"{section}.{key}"


@pytest.mark.parametrize("place", list(Place))
def test_every_setting_is_in_it_and_explained(place):
    text = commented(place)
    for section, values in Settings().model_dump().items():
        assert f"[{section}]" in text
        for key in values:
            assert re.search(rf"^# .+\n#?{key} =", text, re.MULTILINE), f"{section}.{key}"
    assert max(map(len, text.splitlines())) <= 100


def test_a_file_that_exists_is_left_alone(tmp_path):
    path = tmp_path / "lookback.toml"
    path.write_text("mine")
    found = CliRunner().invoke(cli.app, ["init", "--to", str(path)])
    assert "cannot be written" in str(found.exception)
    assert path.read_text() == "mine"
