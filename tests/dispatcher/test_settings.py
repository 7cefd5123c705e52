"""Settings: what is wrong is said in one line, and nothing misspelt is passed over."""

from pathlib import Path

import pytest

from dispatcher.errors import SettingsError
from dispatcher.settings import load


@pytest.fixture
def file(tmp_path):
    def write(text):
        path = tmp_path / "lookback.toml"
        path.write_text(text)
        return path

    return write


def test_a_file_changes_what_it_names_and_nothing_else(file):
    settings = load(file("[batch]\nitems = 32\n[sinks]\nrequired = ['a.jsonl']\n"))
    assert settings.batch.items == 32
    assert settings.sinks.required == ("a.jsonl",)
    assert settings.batch.linger_s == load(None).batch.linger_s


def test_the_environment_wins_over_the_file(file, monkeypatch):
    monkeypatch.setenv("LOOKBACK_BATCH__ITEMS", "16")
    settings = load(file("[batch]\nitems = 32\nlinger_s = 0.5\n"))
    assert (settings.batch.items, settings.batch.linger_s) == (16, 0.5)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[batch]\nitms = 3\n", "batch.itms is not a setting"),
        ("[bach]\nitems = 3\n", "bach is not a setting"),
        ("[batch]\nitems = 0\n", "batch.items.*greater than or equal to 1.*got 0"),
        ("[batch]\nitems = 'many'\n", "batch.items.*valid integer"),
        ("[sinks]\nrequired = []\n", "sinks.required"),
        ("[dead_letters]\nmax_ratio = 1.5\n", "dead_letters.max_ratio"),
        ("batch = \n", "is not TOML"),
    ],
)
def test_a_wrong_setting_is_named(file, text, says):
    with pytest.raises(SettingsError, match=says) as caught:
        load(file(text))
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_there_is_named():
    with pytest.raises(SettingsError, match=r"absent.toml.*--settings"):
        load(Path("absent.toml"))


def test_a_misspelt_variable_is_named(monkeypatch):
    monkeypatch.setenv("LOOKBACK_BATCH__ITMS", "16")
    with pytest.raises(SettingsError, match="LOOKBACK_BATCH__ITMS names no setting"):
        load(None)
