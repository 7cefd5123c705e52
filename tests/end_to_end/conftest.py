"""A small simulated night that the end-to-end tests share."""

import pytest

from dispatcher.demo import render_night


@pytest.fixture(scope="session")
def night(tmp_path_factory):
    """A rendered night of 240 galaxies and what comes with them."""
    path = tmp_path_factory.mktemp("night") / "night.sqlite"
    render_night(path, galaxies=240, seed=5)
    return path
