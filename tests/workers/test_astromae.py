"""The model is the published one."""

import numpy as np
import published
import pytest
import torch

from workers.astromae import AstroMAE


@pytest.fixture(scope="module")
def contract(survey_data):
    return published.read(survey_data)


@pytest.mark.survey_data
def test_a_published_checkpoint_fits_tensor_by_tensor(contract):
    own = {name: list(tensor.shape) for name, tensor in AstroMAE().state_dict().items()}
    assert own == dict(contract["tensors"])


def test_the_position_table_is_the_published_one():
    np.testing.assert_allclose(AstroMAE().pos_embed.numpy(), published.position_table(), atol=1e-6)


@pytest.mark.survey_data
def test_published_weights_give_the_published_redshifts(contract):
    model = AstroMAE.of(published.tensors(contract))
    with torch.inference_mode():
        found = model(*map(torch.from_numpy, published.asked()))
    np.testing.assert_allclose(found[:, 0].numpy(), contract["outputs"], rtol=1e-5)


def test_the_model_has_15902889_distinct_numbers():
    """As the paper counts: parameters and position table, without batch norm statistics."""
    model = AstroMAE()
    assert sum(each.numel() for each in (*model.parameters(), model.pos_embed)) == 15_902_889


def test_a_model_of_tensors_is_the_one_they_came_from(new_model, new_tensors):
    more = new_tensors(30) | {"domain.mean": np.zeros(3, np.float32)}
    before, after = new_model(30), AstroMAE.of(more)
    assert not after.training
    for name, tensor in after.state_dict().items():
        assert torch.equal(tensor, before.state_dict()[name]), name


def test_a_missing_tensor_is_named(new_tensors):
    tensors = new_tensors(30)
    del tensors["fc_norm.bias"]
    with pytest.raises(KeyError, match=r"fc_norm\.bias"):
        AstroMAE.of(tensors)
