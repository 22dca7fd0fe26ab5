"""What is shown of trainings, and what helps against their errors."""

import io
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from mtrl_fair.supervised.config import SupervisedConfig
from mtrl_fair.supervised.jobs import Ended, Job
from mtrl_fair.supervised.trainer import Progress
from scripts.comparing.display import LiveDisplay, PlainDisplay, error_message, make_display

CONFIG = SupervisedConfig(benchmark="toy")
JOBS = [Job(name, CONFIG, Path(name)) for name in ("ls-seed0", "rlw-seed0")]
VALUES = {f"task/m{number}": number / 8 for number in range(6)}


@pytest.mark.parametrize(
    ("changes", "ways_out"),
    [
        ({}, "a lower --learning-rate"),
        (
            {"alpha_fair": 0.5},
            "a lower --learning-rate, or no --alpha-fair, which needs positive losses",
        ),
        (
            {"combiner": "famo"},
            "a lower --learning-rate, or another method than famo, which takes logarithms of"
            " losses",
        ),
    ],
)
def test_what_is_not_finite_has_a_way_out(changes, ways_out):
    job = Job("x", replace(CONFIG, **changes), Path("x"))
    ended = Ended(False, "the loss of first is not finite", "not finite")
    wanted = f"the loss of first is not finite: start a new run with {ways_out}"
    assert error_message(job, ended) == wanted


def test_the_ways_out_of_other_errors():
    full = Ended(False, "CUDA out of memory.", "out of memory", process_is_usable=False)
    wanted = "CUDA out of memory. Lower --batch-size or --jobs in a new run"
    assert error_message(JOBS[0], full) == wanted
    assert error_message(JOBS[0], Ended(False, "no such file")) == "no such file"


@pytest.mark.parametrize("kind", [PlainDisplay, LiveDisplay])
def test_ends_and_errors_are_shown(kind, capsys):
    text = io.StringIO()
    console = Console(file=text, width=200, force_terminal=kind is LiveDisplay, highlight=False)
    with make_display(console, JOBS) as display:
        assert isinstance(display, kind)
        for job in JOBS:
            display.started(job)
            display.progress(job, Progress(0, 2, 0.25, None))
            display.progress(job, Progress(1, 2, 0.5, VALUES))
        display.ended(JOBS[0], Ended(True))
        display.ended(JOBS[1], Ended(False, "[a] fault"))
    shown = text.getvalue()
    errors = shown if kind is LiveDisplay else capsys.readouterr().err
    assert "error: rlw-seed0: [a] fault" in errors
    if kind is LiveDisplay:
        assert "1 of 2 finished" in shown
    else:
        assert shown.splitlines() == [
            "ls-seed0  finished  (1 of 2)",
            "rlw-seed0  failed  (2 of 2)",
        ]


def test_long_trainings_print_the_first_metrics_now_and_then(monkeypatch):
    monkeypatch.setattr("scripts.comparing.display.SECONDS_BETWEEN_LINES", -1)
    text = io.StringIO()
    display = PlainDisplay(Console(file=text, width=200), JOBS)
    display.started(JOBS[0])
    display.progress(JOBS[0], Progress(0, 2, 0.25, None))
    display.progress(JOBS[0], Progress(1, 2, 0.5, VALUES))
    display.ended(JOBS[0], Ended(False))
    first = "task/m0 0  task/m1 0.125  task/m2 0.25  task/m3 0.375 …"
    assert text.getvalue().splitlines() == [
        f"ls-seed0  epoch 1/2  {first}",
        "ls-seed0  stopped  (1 of 2)",
    ]
