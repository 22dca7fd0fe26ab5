"""What holds for every test of the scripts."""

import matplotlib.pyplot as plt
import pytest


@pytest.fixture(autouse=True)
def _no_open_figures():
    yield
    plt.close("all")
