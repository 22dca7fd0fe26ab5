"""The toy problem's command line."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from scripts import toy

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
SPACES = ("loss_space.png", "loss_space.svg", "parameter_space.png", "parameter_space.svg")


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


@pytest.mark.process
def test_as_a_program(tmp_path):
    words = ["--steps", "2", "--alphas", "2"]
    result = subprocess.run(
        [sys.executable, "-W", "error", "scripts/toy.py", *words, "--output", tmp_path],
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
