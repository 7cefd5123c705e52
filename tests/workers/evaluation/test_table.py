"""The table of an evaluation: of what rows, against what, and what is left out of it."""

import json

import numpy as np
import pytest

from workers.errors import DataError
from workers.evaluation import table as tables
from workers.evaluation.metrics import point_metrics
from workers.evaluation.slices import by_r, by_z, headline, populations
from workers.evaluation.table import MEASURED, evaluate, evaluate_rows
from workers.training.cutouts import Cutouts


def test_populations_tell_kinds_and_what_is_simulated(some_rows):
    parts = [some_rows(100), some_rows(40, kind="galaxy"), some_rows(10, kind="object")]
    rows = Cutouts.join(parts)
    assert {name: int(mask.sum()) for name, mask in populations(rows).items()} == {
        "real quasars": 80,
        "simulated quasars": 20,
        "real galaxies": 32,
        "simulated galaxies": 8,
        "real objects": 8,
        "simulated objects": 2,
    }


def test_cuts_belong_to_a_kind(some_rows):
    rows = Cutouts.join([some_rows(100), some_rows(40, kind="galaxy")])
    lines = headline(rows)
    far = (rows.kind == "quasar") & ~rows.simulated & (rows.z >= 2.7)
    bright = (rows.kind == "galaxy") & ~rows.simulated & (rows.magnitudes[:, 2] < 19.5)
    np.testing.assert_array_equal(lines["real quasars, z >= 2.7"], far)
    np.testing.assert_array_equal(lines["real galaxies, r < 19.5"], bright)
    assert "real quasars, all" in lines
    assert "real quasars, r < 19.5" not in lines


def test_bins_hold_every_row_once_and_none_is_empty(some_rows):
    rows = some_rows(300)
    mask = ~rows.simulated
    for bins in (by_r(rows, mask), by_z(rows, mask)):
        assert all(each.any() for each in bins.values())
        np.testing.assert_array_equal(sum(each.astype(int) for each in bins.values()), mask)
    assert list(by_z(rows, mask))[:2] == ["1 to 1.5", "1.5 to 2.2"]


def test_rows_without_r_are_in_no_bin_of_r(some_rows):
    rows = some_rows(20)
    rows.magnitudes[:5, 2] = np.nan
    rows.magnitudes[5, 2] = 27.0
    found = by_r(rows, np.ones(20, bool))
    assert sum(int(each.sum()) for each in found.values()) == 14


def test_the_table_says_what_is_known_of_the_model(model, some_rows):
    rows = some_rows(600)
    found = evaluate_rows(model, rows)
    assert json.loads(json.dumps(found.table, allow_nan=False)) == found.table
    assert found.table["rows"] == 600
    assert found.table["weights_sha256"] == model.sha256
    entry = found.table["metrics"]["real quasars, all"]
    real = ~rows.simulated
    assert (entry["n"], entry["groups"]) == (480, 240)
    expected = point_metrics(model.truth[real], rows.z[real])
    assert {name: entry[name] for name in expected} == pytest.approx(expected)
    assert entry["nmad"] == pytest.approx(0.03, rel=0.1)
    assert entry["nmad_95"][0] < 0.03 < entry["nmad_95"][1]
    assert entry["coverage68"] == pytest.approx(0.68, abs=0.06)
    assert entry["coverage95_95"][0] < 0.95 < entry["coverage95_95"][1]
    assert entry["pit"]["uniform"]
    assert entry["unusual"] == pytest.approx(60 / 480)
    assert entry["foreign"] == 0
    assert entry["flagged"] == 0
    assert set(entry["flags"]) >= {"BROAD", "MEASURED_MAGNITUDES"}


def test_bins_sum_up_to_their_population(model, some_rows):
    found = evaluate_rows(model, some_rows(300)).table
    for bins in ("by_r", "by_z"):
        for name, entries in found[bins].items():
            total = sum(each["n"] for each in entries.values())
            assert total == found["metrics"][f"{name}, all"]["n"]
    assert all(each["pit"] is None for each in found["by_z"]["real quasars"].values())
    assert all(each["pit"] for each in found["by_r"]["real quasars"].values())


def test_magnitudes_are_withheld_for_comparison(model, some_rows):
    found = evaluate_rows(model, some_rows(300)).table
    given = found["metrics"]["real quasars, all"]
    withheld = found["comparisons"][MEASURED]["real quasars, all"]
    assert withheld["nmad"] == pytest.approx(3 * given["nmad"], rel=0.05)
    assert withheld["flags"]["MEASURED_MAGNITUDES"] == 1
    assert not withheld["pit"]["uniform"]


def test_larger_images_are_cut_to_their_middle(model, some_rows):
    small = evaluate_rows(model, some_rows(60)).table
    large = evaluate_rows(model, some_rows(60, size=64)).table
    assert small == large


def test_a_point_model_has_no_intervals_and_no_scores_of_a_density(point_model, some_rows):
    entry = evaluate_rows(point_model, some_rows(100)).table["metrics"]["real quasars, all"]
    for name in ("coverage68", "coverage95_95", "crps", "log_score", "cde_loss", "pit", "unusual"):
        assert entry[name] is None, name
    assert entry["nmad"] == pytest.approx(0.03, rel=0.3)


def test_rows_without_a_redshift_are_left_out_and_counted(model, some_rows):
    rows = some_rows(100)
    rows.z[::4] = np.nan
    found = evaluate_rows(model, rows)
    assert found.table["rows"] == len(found.rows) == len(found.found["z_median"]) == 75
    assert found.table["left_out"] == {"no_redshift": 25, "in_training": 0}


def test_nothing_to_compare_with_is_an_error(model, some_rows):
    rows = some_rows(10)
    rows.z[:] = np.nan
    with pytest.raises(DataError, match="no row of the data set has a redshift"):
        evaluate_rows(model, rows)


def test_rows_that_were_trained_on_are_left_out_and_counted(model, some_rows):
    rows = some_rows(300)
    found = evaluate_rows(model, rows.rows(np.arange(100, 300)), rows.rows(np.arange(120)))
    assert found.table["left_out"]["in_training"] == 20
    assert found.table["rows"] == 180


def test_the_training_part_is_not_to_be_evaluated(model, some_rows):
    rows = some_rows(100)
    with pytest.raises(DataError, match="100 of 100 rows to estimate are training rows"):
        evaluate_rows(model, rows, rows)


def test_simple_estimators_stand_beside_the_model(model, some_rows):
    rows = some_rows(600)
    train, test = rows.rows(np.arange(400)), rows.rows(np.arange(400, 600))
    found = evaluate_rows(model, test, train).table
    assert set(found["comparisons"]) == {
        MEASURED,
        "forest on magnitudes",
        "forest on apertures",
        "mean of the training set",
    }
    mean = found["comparisons"]["mean of the training set"]["real quasars, all"]
    forest = found["comparisons"]["forest on magnitudes"]["real quasars, all"]
    assert mean["n"] == forest["n"] == found["metrics"]["real quasars, all"]["n"]
    # The colours are nothing but the redshift.
    assert forest["nmad"] < 0.05 < mean["nmad"]
    assert forest["nmad_95"][0] <= forest["nmad"] <= forest["nmad_95"][1]


def test_training_rows_of_another_kind_are_no_comparison(model, some_rows):
    other = some_rows(50, kind="galaxy")
    other.z[:] += 0.01
    with pytest.raises(DataError, match="the training rows hold no quasar"):
        evaluate_rows(model, some_rows(50), other)


def test_files_are_read_and_named(tmp_path, model, some_rows, monkeypatch):
    some_rows(50).save(tmp_path / "some.npz")
    monkeypatch.setattr(tables.Estimator, "load", lambda *_, **__: model)
    found = evaluate(None, tmp_path / "some.npz")
    assert (found["data"], found["rows"], found["model"]) == ("some.npz", 50, "known")
    with pytest.raises(DataError, match=r"absent\.npz"):
        evaluate(None, tmp_path / "absent.npz")
