"""The toy problem in the supervised trainer."""

import json
from dataclasses import replace

import pytest
import torch

from mtrl_fair.supervised.benchmarks.toy import ToyBenchmark
from mtrl_fair.supervised.benchmarks.two_losses.problem import STARTS, toy_front_gap, toy_losses
from mtrl_fair.supervised.config import SupervisedConfig
from mtrl_fair.supervised.training import train

CONFIG = SupervisedConfig(benchmark="toy", batch_size=1, learning_rate=0.1, epochs=1)


@pytest.mark.parametrize("seed", range(6))
def test_each_seed_has_its_start(seed):
    torch.manual_seed(seed)
    model = ToyBenchmark().model([0, 1])
    (x,) = model.shared_parameters()
    assert x.tolist() == list(STARTS[seed % 5])
    assert model.task_parameters() is None
    outputs = model(torch.empty(0))
    assert torch.equal(outputs[0], toy_losses(x))
    losses = [ToyBenchmark().loss(k, outputs[k], None) for k in (0, 1)]
    assert losses == toy_losses(x).tolist()


@pytest.mark.slow
def test_fairgrad_reaches_the_front_and_the_sum_ends_where_the_second_task_wants(tmp_path):
    """From (-7.5, -0.5), in 250 steps, with a rate 300 times that of the paper's Adam."""
    ends = {}
    for name in ("fairgrad", "ls"):
        path = tmp_path / name
        fast = replace(CONFIG, learning_rate=0.3, batch_size=4)
        assert train(replace(fast, seed=3, combiner=name, scale="norm"), path)
        values = json.loads((path / "results.json").read_text())["values"]
        ends[name] = [values["first/loss"], values["second/loss"]]
        assert toy_front_gap(torch.tensor(ends[name])) < 0.01
    assert ends["fairgrad"][0] < ends["ls"][0] - 0.1
    assert ends["fairgrad"][1] > ends["ls"][1]


@pytest.mark.parametrize("name", ["si", "famo"])
def test_methods_that_take_logarithms_know_its_bound(tmp_path, name):
    assert train(replace(CONFIG, seed=3, combiner=name, batch_size=20), tmp_path / "run")


@pytest.mark.slow
def test_a_single_task_reaches_its_own_minimum(tmp_path):
    assert train(replace(CONFIG, seed=3, combiner="ls", task="second"), tmp_path / "run")
    values = json.loads((tmp_path / "run" / "results.json").read_text())["values"]
    assert list(values) == ["second/loss"]
    # At x1 = -7 the second loss is about -tanh(4.2) * 20.
    assert values["second/loss"] == pytest.approx(-19.98, abs=0.05)
