"""p(z) and estimates as files: what other tools read is what was estimated."""

import sys

import numpy as np
import pytest
from pyarrow import csv, parquet

from workers.density import Grid
from workers.errors import DataError
from workers.evaluation.catalogue import estimate_rows, estimate_table
from workers.evaluation.qp import write_qp

GRID = Grid(200, 6.0)
FRACTIONS = (0.025, 0.16, 0.5, 0.84, 0.975)


@pytest.fixture
def pz():
    """Densities with one and with two peaks."""
    rng = np.random.default_rng(1)
    middle, width = rng.uniform(20, 180, (50, 2, 1)), rng.uniform(2, 9, (50, 2, 1))
    p = np.exp(-0.5 * ((np.arange(200) - middle) / width) ** 2)
    p = (p * [[[1.0], [0.4]]]).sum(axis=1)
    return (p / p.sum(axis=1, keepdims=True)).astype(np.float32)


@pytest.fixture
def read():
    """What reads the files elsewhere."""
    import qp

    return lambda path: qp.read(str(path))


@pytest.mark.filterwarnings("ignore")  # qp's and its libraries', on newer releases of others
def test_qp_reads_the_quantiles_that_we_read(tmp_path, pz, read):
    ids = np.array([f"object-{i}" for i in range(50)])
    write_qp(tmp_path / "p.hdf5", GRID, pz, {"id": ids, "row": np.arange(50)})
    ensemble = read(tmp_path / "p.hdf5")
    assert ensemble.npdf == 50
    ours = GRID.quantiles(pz, FRACTIONS)
    for fraction, expected in zip(FRACTIONS, ours.T, strict=True):
        # Ours take p as flat in ln(1 + z) within a bin, theirs in z: an eighth of step^2 (1 + z).
        np.testing.assert_allclose(ensemble.ppf(fraction)[:, 0], expected, atol=1e-4)
    assert ensemble.ancil["row"].tolist() == list(range(50))
    assert ensemble.ancil["id"].tolist() == ids.tolist()


@pytest.mark.filterwarnings("ignore")
def test_qp_writes_what_it_read_from_us_in_the_same_layout(tmp_path, pz, read):
    import h5py

    write_qp(tmp_path / "ours.hdf5", GRID, pz, {"row": np.arange(50)})
    read(tmp_path / "ours.hdf5").write_to(str(tmp_path / "theirs.hdf5"))
    with h5py.File(tmp_path / "ours.hdf5") as ours, h5py.File(tmp_path / "theirs.hdf5") as theirs:
        shapes = []
        for file in (ours, theirs):
            found = {}
            file.visititems(
                lambda name, item, found=found: found.update({name: getattr(item, "shape", None)})
            )
            shapes.append(found)
        assert shapes[0] == shapes[1]
        for name in ("meta/bins", "data/pdfs", "ancil/row", "meta/pdf_name", "meta/pdf_version"):
            if ours[name].dtype.kind == "S":
                assert ours[name][()].tolist() == theirs[name][()].tolist()
            else:
                np.testing.assert_allclose(ours[name][()], theirs[name][()], rtol=1e-5)


def test_a_point_estimate_is_no_density(tmp_path):
    with pytest.raises(DataError, match="no p\\(z\\) to write"):
        write_qp(tmp_path / "p.hdf5", Grid(1, 6.0), np.empty((3, 0), np.float32))
    assert not (tmp_path / "p.hdf5").exists()


def test_columns_of_another_length_are_refused(tmp_path, pz):
    with pytest.raises(DataError, match="column id has 3 rows, p\\(z\\) has 50"):
        write_qp(tmp_path / "p.hdf5", GRID, pz, {"id": np.arange(3)})


def test_without_h5py_the_message_says_what_to_install(tmp_path, pz, monkeypatch):
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(DataError, match="lookback\\[pdf\\]"):
        write_qp(tmp_path / "p.hdf5", GRID, pz)


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_every_row_has_its_estimate_and_where_it_comes_from(tmp_path, some_rows, model, ending):
    rows = some_rows(70)
    rows.z[3] = np.nan
    out = tmp_path / f"found.{ending}"
    assert estimate_rows(model, rows, out) == [out]
    read = csv.read_csv if ending == "csv" else parquet.read_table
    table = read(out).to_pydict()
    assert table["row"] == list(range(70))
    assert table["group"] == rows.group.tolist()
    assert table["z_true"][3] is None
    assert table["z_median"] == pytest.approx(model.truth[:70])
    assert set(table["weights_sha256"]) == {model.sha256}
    assert "pz" not in table
    fields = {"z_mean", "z_mode", "z_err68_low", "z_err95_high", "quality_flag", "out_of_domain"}
    assert fields < set(table)


@pytest.mark.filterwarnings("ignore")
def test_densities_go_beside_the_table(tmp_path, some_rows, model, read):
    written = estimate_rows(model, some_rows(30), tmp_path / "found.parquet", pdf=True)
    assert [each.name for each in written] == ["found.parquet", "found.hdf5"]
    ensemble = read(written[1])
    np.testing.assert_allclose(ensemble.ppf(0.5)[:, 0], ensemble.ancil["z_median"], atol=1e-3)


def test_what_a_point_model_does_not_give_is_null(tmp_path, some_rows, point_model):
    estimate_rows(point_model, some_rows(20), tmp_path / "found.parquet")
    table = parquet.read_table(tmp_path / "found.parquet").to_pydict()
    assert set(table["z_err68_low"]) == {None}
    assert None not in table["z_median"]


def test_another_ending_is_refused_before_anything_is_computed(tmp_path):
    with pytest.raises(DataError, match=r"is to end in one of \.parquet, \.csv"):
        estimate_table(None, tmp_path / "absent.npz", tmp_path / "found.fits")


def test_a_folder_that_is_not_there_is_named(tmp_path, some_rows, model):
    with pytest.raises(DataError, match=r"cannot write .*absent"):
        estimate_rows(model, some_rows(5), tmp_path / "absent" / "found.csv")
