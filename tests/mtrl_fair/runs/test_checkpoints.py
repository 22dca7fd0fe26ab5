"""Checkpoints come back exactly; damaged and foreign files are refused and never executed."""

import pickle
import subprocess
import sys
import time

import numpy as np
import pytest
import torch

from mtrl_fair.runs import RunDirectory, RunError
from mtrl_fair.runs.checkpoints import FORMAT, load_checkpoint, save_checkpoint
from tests.mtrl_fair.runs.small_runs import make_run


@pytest.fixture
def run(tmp_path) -> RunDirectory:
    return make_run(tmp_path)


@pytest.mark.parametrize("mmap", [False, True])
def test_checkpoints_come_back_exactly(run, mmap):
    state = {
        "step": 7,
        "tensor": torch.randn(3, 2),
        "array": np.arange(4.0),
        "generator": np.random.default_rng(0).bit_generator.state,
        "nested": [{"flag": True, "none": None, "text": "x"}],
    }
    run.save_checkpoint("latest", state)
    loaded = run.load_checkpoint("latest", mmap=mmap)
    assert loaded.keys() == state.keys()
    assert torch.equal(loaded["tensor"], state["tensor"])
    assert loaded["array"].tolist() == [0, 1, 2, 3]
    for key in ("step", "generator", "nested"):
        assert loaded[key] == state[key]
    assert [path.name for path in (run.path / "checkpoints").iterdir()] == ["latest.pt"]


class Exploit:
    def __reduce__(self):
        return (print, ("executed",))


def truncated(path):
    save_checkpoint(path, {"tensor": torch.zeros(10_000)})
    path.write_bytes(path.read_bytes()[:5_000])


@pytest.mark.parametrize(
    "write",
    [
        truncated,
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(b"hello"),
        lambda path: path.write_bytes(b"PK\x03\x04 foreign"),
        lambda path: path.write_bytes(pickle.dumps(Exploit())),
        lambda path: torch.save({"model": torch.zeros(2)}, path),
        lambda path: torch.save(torch.zeros(2), path),
        lambda path: torch.save({"format": Exploit()}, path),
    ],
)
def test_damaged_and_foreign_checkpoints_are_refused_without_running_them(run, write, capsys):
    write(run.checkpoint_path("latest"))
    with pytest.raises(RunError, match="truncated or no checkpoint of mtrl-fair"):
        run.load_checkpoint("latest")
    assert "executed" not in capsys.readouterr().out


def test_a_checkpoint_of_an_earlier_version_is_refused_in_one_line(run):
    earlier = "mtrl-fair checkpoint 2"
    torch.save({"format": earlier, "step": 1}, run.checkpoint_path("latest"))
    message = (
        f"another version of mtrl-fair wrote the checkpoint .*latest.pt, in the format '{earlier}'"
        f" instead of '{FORMAT}': use the commit that the run's metadata.json names"
    )
    with pytest.raises(RunError, match=message) as caught:
        run.load_checkpoint("latest")
    assert "\n" not in str(caught.value)


def test_a_missing_checkpoint_is_refused(run):
    with pytest.raises(RunError, match="there is no checkpoint"):
        run.load_checkpoint("latest")


@pytest.mark.process
def test_a_kill_while_saving_leaves_a_whole_checkpoint(tmp_path):
    """A process that saves over and over is killed at some moments; the file always loads."""
    path = tmp_path / "latest.pt"
    code = (
        "import sys, torch; from pathlib import Path\n"
        "from mtrl_fair.runs.checkpoints import save_checkpoint\n"
        "count = 0\n"
        "while True:\n"
        "    count += 1\n"
        f"    save_checkpoint(Path({str(path)!r}), "
        "{'count': count, 'tensor': torch.full((500_000,), float(count))})\n"
    )
    counts = []
    for delay in (0.0, 0.013, 0.037):
        process = subprocess.Popen([sys.executable, "-c", code])
        while not path.exists():
            time.sleep(0.01)
        time.sleep(0.05 + delay)
        process.kill()
        process.wait()
        state = load_checkpoint(path)
        assert (state["tensor"] == state["count"]).all()
        counts.append(state["count"])
        path.unlink()
    assert min(counts) >= 1
