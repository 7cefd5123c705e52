"""A published checkpoint, taken over: it gives what its authors' code gives, and says so."""

import hashlib

import numpy as np
import published
import pytest
import torch
from torch import nn
from typer.testing import CliRunner

from dispatcher.cli import app
from workers.astromae import AstroMAE
from workers.checkpoint import adopt
from workers.errors import WeightsError
from workers.estimator import Estimator
from workers.quality import Quality
from workers.weights import read_config


@pytest.fixture
def checkpoint(survey_data, tmp_path):
    """The contract's model as CAI's authors ship theirs."""
    model = AstroMAE.of(published.tensors(published.read(survey_data)))
    torch.save(nn.DataParallel(model), tmp_path / "checkpoint.pt")
    return tmp_path / "checkpoint.pt"


@pytest.mark.survey_data
@pytest.mark.parametrize("engine", ["cpu", "torch"])
def test_it_gives_the_published_redshifts(checkpoint, survey_data, tmp_path, engine):
    to = tmp_path / "ours.safetensors"
    identity = adopt(checkpoint, to, name="theirs", version="2025", say=str)
    found = Estimator.load(to, engine=engine).estimate(*published.asked())
    np.testing.assert_allclose(
        found.z_median, published.read(survey_data)["outputs"], rtol=1e-4, err_msg=engine
    )
    assert np.isnan(found.z_err68_low).all() and np.isnan(found.out_of_domain).all()
    assert ((found.quality_flag & Quality.NO_UNCERTAINTY) > 0).all()
    assert (identity.name, identity.version, identity.calibration_id) == ("theirs", "2025", None)


@pytest.mark.survey_data
def test_where_it_came_from_is_in_the_file(checkpoint, tmp_path):
    adopt(checkpoint, tmp_path / "ours.safetensors", name="theirs", version="1", say=str)
    recipe = read_config(tmp_path / "ours.safetensors").recipe
    sha256 = hashlib.sha256(checkpoint.read_bytes()).hexdigest()
    assert recipe == {"published": "checkpoint.pt", "sha256": sha256}


@pytest.mark.survey_data
def test_the_command_says_what_it_wrote(checkpoint, tmp_path):
    to = tmp_path / "ours.safetensors"
    done = CliRunner().invoke(app, ["import", str(checkpoint), "--to", str(to)])
    assert done.exit_code == 0, done.output
    assert hashlib.sha256(to.read_bytes()).hexdigest() in done.output


def test_another_model_is_refused(tmp_path):
    torch.save(nn.Linear(3, 3).state_dict(), tmp_path / "other.pt")
    with pytest.raises(WeightsError, match="does not hold the published AstroMAE"):
        adopt(tmp_path / "other.pt", tmp_path / "ours.safetensors", name="x", version="1", say=str)
    assert not (tmp_path / "ours.safetensors").exists()
