"""The table for a person: on a terminal, and as pictures."""

import io
import json

import numpy as np
import pytest
from rich.console import Console

from workers.errors import DataError
from workers.evaluation import report
from workers.evaluation.plots import running
from workers.evaluation.table import evaluate_rows

PNG = b"\x89PNG\r\n\x1a\n"


@pytest.fixture(scope="module")
def evaluation(model, some_rows):
    rows = some_rows(200)
    rows.magnitudes[:3, 2] = np.nan
    rows.z[-1] = np.nan
    return evaluate_rows(model, rows)


@pytest.fixture
def printed():
    def print_table(table):
        into = io.StringIO()
        report.show(table, Console(file=into))
        return into.getvalue()

    return print_table


def test_a_terminal_shows_every_line_and_bin(evaluation, printed):
    text = printed(evaluation.table)
    assert "known version 2, weights abababababab, 199 rows" in text
    assert "left out: 1 no redshift" in text
    for line in evaluation.table["metrics"]:
        assert line in text
    assert "measured in the stamp" in text
    for label in evaluation.table["by_z"]["real quasars"]:
        assert label in text
    entry = evaluation.table["metrics"]["real quasars, all"]
    low, high = entry["nmad_95"]
    assert f"{entry['nmad']:.4f} ({low:.4f} to {high:.4f})" in text


def test_a_point_model_has_dashes_where_it_has_nothing(point_model, some_rows, printed):
    table = evaluate_rows(point_model, some_rows(100)).table
    row = next(line for line in printed(table).splitlines() if "model" in line.split())
    assert row.split()[-3:] == ["-", "-", "-"]


def test_pictures_and_the_table_are_left_in_a_folder(evaluation, tmp_path):
    written = report.write(evaluation, tmp_path / "new" / "report")
    assert {each.name for each in written} == {
        "table.json",
        *(
            f"{line}-{what}.png"
            for line in (
                "real-quasars-all",
                "real-quasars-z-2-7",
                "simulated-quasars-all",
                "simulated-quasars-z-2-7",
            )
            for what in ("redshifts", "errors", "calibration", "examples")
        ),
    }
    assert json.loads(written[0].read_text()) == evaluation.table
    assert all(each.read_bytes().startswith(PNG) for each in written[1:])


def test_a_point_model_has_no_pictures_of_densities(point_model, some_rows, tmp_path):
    rows = some_rows(40)
    rows = rows.rows(~rows.simulated)
    written = report.write(evaluate_rows(point_model, rows), tmp_path)
    names = {each.name for each in written if "all" in each.name}
    assert names == {"real-quasars-all-redshifts.png", "real-quasars-all-errors.png"}


def test_one_row_can_be_drawn(model, some_rows, tmp_path):
    written = report.write(evaluate_rows(model, some_rows(1)), tmp_path)
    assert all(each.stat().st_size > 1000 for each in written)


def test_pictures_of_simulated_rows_say_so(evaluation, tmp_path, monkeypatch):
    titles = []
    monkeypatch.setattr(
        report.plots, "draw_all", lambda shown, *_: titles.append(shown.title) or []
    )
    report.write(evaluation, tmp_path)
    assert [each for each in titles if "SIMULATED" in each] == [
        "SIMULATED quasars, all, known",
        "SIMULATED quasars, z >= 2.7, known",
    ]
    assert len(titles) == 4


def test_a_training_log_becomes_a_learning_curve(model, some_rows, tmp_path):
    evaluation = evaluate_rows(model, some_rows(2))
    log = tmp_path / "metrics.jsonl"
    lines = [{"stage": "finetuning", "epoch": i, "loss": 1 / i, "seconds": 2} for i in (1, 2, 3)]
    lines.append({"stage": "calibration", "temperature": 1.2})
    log.write_text("".join(json.dumps(each) + "\n" for each in lines))
    written = report.write(evaluation, tmp_path / "out", log)
    assert written[-1].name == "learning-curve.png"
    assert written[-1].read_bytes().startswith(PNG)


def test_a_log_that_is_none_is_named(evaluation, tmp_path):
    (tmp_path / "metrics.jsonl").write_text("not json\n")
    with pytest.raises(DataError, match=r"metrics\.jsonl is not the metrics\.jsonl of a training"):
        report.write(evaluation, tmp_path / "out", tmp_path / "metrics.jsonl")


def test_the_running_median_follows_and_the_running_nmad_is_local():
    rng = np.random.default_rng(1)
    x = rng.uniform(0, 10, 3000)
    dz = 0.1 * x + rng.normal(0, 0.01 + 0.01 * x)
    middle, median, spread = running(x, dz)
    np.testing.assert_allclose(median, 0.1 * middle, atol=0.03)
    assert spread[-1] > 3 * spread[0]
    assert len(running(x[:5], dz[:5])[0]) == 1
