"""The toy problem's command line, and the paper's claims about its trajectories."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from mtrl_fair import COMBINERS
from mtrl_fair.supervised.benchmarks.toy_problem import toy_front_gap, toy_losses
from scripts import toy
from scripts.toy_figures.descent import (
    FRONT_TOLERANCE,
    OPTIMIZERS,
    Optimizer,
    Trajectories,
    combiner_method,
    descend,
    fairgrad_method,
)

ROOT = Path(__file__).parents[2]
SPACES = ("loss_space.png", "loss_space.svg", "parameter_space.png", "parameter_space.svg")


@pytest.fixture(scope="module")
def trajectories() -> Trajectories:
    """The default command's."""
    return descend([fairgrad_method(alpha) for alpha in toy.ALPHAS], OPTIMIZERS["sgd"])


def test_fairgrad_reaches_the_front_from_every_start(trajectories):
    assert (trajectories.reached[1:] > 0).all()
    assert toy_front_gap(trajectories.losses[-1, 1:]).max() <= FRONT_TOLERANCE


def test_the_summed_loss_does_not_reach_it_from_every_start(trajectories):
    stuck = [
        start for start, step in zip(toy.STARTS, trajectories.reached[0], strict=True) if step < 0
    ]
    assert stuck == [(-8.5, 7.5), (9.0, 9.0)]
    assert toy_front_gap(trajectories.losses[-1, 0]).max() > 1


def test_loss_1_falls_with_alpha_from_every_start(trajectories):
    final = trajectories.losses[-1, :, :, 0]
    assert (final[1:] < final[:-1]).all()


def test_with_adam_the_front_is_reached_too():
    optimizer = OPTIMIZERS["adam"]
    trajectories = descend([fairgrad_method(2.0)], optimizer._replace(learning_rate=5e-3))
    assert (trajectories.reached > 0).all()


def test_a_trajectory_stays_where_it_reached_the_front(trajectories):
    torch.testing.assert_close(toy_losses(trajectories.points), trajectories.losses)
    step = int(trajectories.reached[1, 1])
    after = trajectories.points[trajectories.steps.index(step) :, 1, 1]
    assert len(after) > 1
    assert (after == after[0]).all()


def few_steps(number: int) -> Optimizer:
    return OPTIMIZERS["adam"]._replace(steps=number)


def test_methods_in_one_batch_equal_methods_alone():
    together = descend([fairgrad_method(1.0), fairgrad_method(2.0)], few_steps(120))
    alone = descend([fairgrad_method(2.0)], few_steps(120))
    assert together.steps == alone.steps == [0, 50, 100, 120]
    assert torch.equal(together.points[:, 1], alone.points[:, 0])


@pytest.mark.parametrize(("name", "alpha"), [("ls", 0.0), ("nash_mtl", 1.0), ("fairgrad", 2.0)])
def test_a_combiner_equals_its_alpha(name, alpha):
    named, numbered = combiner_method(name), fairgrad_method(alpha)
    batch = descend([named, numbered], few_steps(100))
    # At alpha = 1 the direction from (0, 0) has no x1 part but rounding, which Adam enlarges.
    torch.testing.assert_close(batch.points[:, 0], batch.points[:, 1], rtol=0, atol=1e-4)


@pytest.mark.parametrize("name", sorted(COMBINERS))
def test_every_combiner_descends(name):
    min_loss = -21.0 if name in ("si", "dwa", "uw", "famo") else None
    torch.manual_seed(0)
    method = combiner_method(name, min_loss)
    attribute = {"uw": "log_variances", "famo": "logits"}.get(name)
    losses = descend([method], few_steps(100)).losses
    assert (losses[-1].sum(-1) < losses[0].sum(-1)).any()
    if attribute is not None:  # learnt by our optimiser, and from the second look at the losses
        assert all(getattr(combiner, attribute).any() for combiner in method.combiners)


@pytest.mark.parametrize(
    ("flags", "prefix", "row"),
    [
        (("--alphas", "0", "3"), "toy", "alpha = 3"),
        (("--combiner", "pcgrad"), "toy_pcgrad", "pcgrad"),
    ],
)
def test_figures_and_table(tmp_path, capsys, flags, prefix, row):
    toy.main([*flags, "--steps", "60", "--output", str(tmp_path / "new")])
    written = sorted((tmp_path / "new").iterdir())
    assert [path.name for path in written] == [f"{prefix}_{space}" for space in SPACES]
    for path in written:
        assert path.read_bytes().startswith(b"\x89PNG" if path.suffix == ".png" else b"<?xml")
    printed = capsys.readouterr().out
    assert row in printed
    assert "(-8.5, 7.5)" in printed
    assert "not reached" in printed


def test_as_a_program(tmp_path):
    result = subprocess.run(
        [sys.executable, "-W", "error", "scripts/toy.py", "--steps", "2", "--output", tmp_path],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""
    assert len(list(tmp_path.iterdir())) == len(SPACES)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--alphas", "1", "-2"], "alpha is -2.0, but a fairness exponent"),
        (["--alphas", "nan"], "alpha is nan"),
        (["--alphas"], "--alphas is empty"),
        (["--optimizer", "adma"], "unknown optimizer 'adma': did you mean adam"),
        (["--steps", "0"], "--steps is 0, expected at least 1"),
        (["--learning-rate", "0"], "--learning-rate is 0.0, expected a positive number"),
        (["--combiner", "pcgard"], "unknown combiner 'pcgard': did you mean pcgrad"),
        (["--combiner", "ls", "--alphas", "1"], "--alphas belongs to FairGrad"),
        (["--min-loss", "1"], "--min-loss belongs to a combiner"),
        (["--combiner", "ls", "--min-loss", "1"], "unknown option of combiner ls 'min_loss'"),
        (["--combiner", "si"], "si needs losses above"),
        (["--output", str(Path(__file__))], "give a folder that can be written"),
        (["--output", "/dev/null/toy"], "give a folder that can be written"),
    ],
)
def test_bad_input_is_one_line(tmp_path, monkeypatch, capsys, flags, message):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as exit_info:
        toy.main(flags)
    assert exit_info.value.code == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
