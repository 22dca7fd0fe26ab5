"""Trainings of the small benchmark, and what they leave behind."""

import json

import torch
from torch.utils import _pytree as pytree

from mtrl_fair.runs import RunDirectory
from mtrl_fair.runs.checkpoints import LATEST
from mtrl_fair.supervised.config import to_dict
from mtrl_fair.supervised.trainer import RESUMABLE, RUN_KIND, Trainer
from tests.mtrl_fair.supervised.small_benchmark import SmallBenchmark, config

CPU = torch.device("cpu")


def make_trainer(path, settings=None, benchmark=SmallBenchmark, report=lambda progress: None):
    settings = settings or config()
    if path.exists():
        run = RunDirectory.open(path, RUN_KIND)
        state = run.load_checkpoint(LATEST, RESUMABLE)
        run.rewind(state["step"])
    else:
        run, state = RunDirectory.create(path, to_dict(settings), RUN_KIND), None
    trainer = Trainer(settings, benchmark(), run, CPU, report)
    if state is not None:
        trainer.load_state_dict(state)
    return trainer


def lines(path) -> list[dict]:
    found = [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]
    for line in found:
        line.pop("charts/steps_per_second", None)
    return found


def assert_same(path, other):
    assert lines(path) == lines(other)
    for name in ("evaluations.csv", "results.json"):
        assert (path / name).read_text() == (other / name).read_text()
    states = [RunDirectory.open(p).load_checkpoint(LATEST) for p in (path, other)]
    leaves = [pytree.tree_leaves(state) for state in states]
    assert len(leaves[0]) == len(leaves[1]) > 30
    for ours, theirs in zip(*leaves, strict=True):
        if isinstance(ours, torch.Tensor):
            torch.testing.assert_close(ours, theirs, rtol=0, atol=0, equal_nan=True)
        else:
            assert ours == theirs


def stop_after(calls: int):
    counter = iter(range(10**6))
    return lambda: next(counter) >= calls
