"""What a full disk costs a training, and what is said of it."""

import io

import pytest
import torch
from rich.console import Console

from mtrl_fair import NonFiniteError
from scripts.training.display import PlainReporter
from scripts.training.run import divergence
from tests.full_disk import fill_disk
from tests.scripts.training.counting_envs import K, make_loop


def test_what_a_full_disk_costs_is_said(tmp_path, evaluations):
    """The best policy's checkpoint is not tried again, the latest one is."""
    output = io.StringIO()
    loop = make_loop(tmp_path, PlainReporter(Console(file=output, width=1000), 10))
    save, filled = loop.save, []

    def first_save() -> None:
        save()
        if not filled:
            filled.append(fill_disk(*map(loop.run_directory.checkpoint_path, ("latest", "best"))))

    loop.save = first_save
    assert loop.run()
    warnings = [line for line in output.getvalue().splitlines() if line.startswith("warning: ")]
    assert len(warnings) == 2
    for line, name, consequence in zip(
        warnings,
        ("best", "latest"),
        ("It keeps the policy of an earlier evaluation.", "Training goes on and tries again."),
        strict=True,
    ):
        assert f"{name}.pt cannot be written (No space left on device): free some space" in line
        assert line.endswith(consequence)
    assert loop.run_directory.load_checkpoint("latest")["step"] == 10
    assert loop.run_directory.load_checkpoint("best")["step"] == 8
    assert len(loop.run_directory.evaluations()) == 3 * K


def test_a_last_finite_state_that_cannot_be_kept_is_no_reason_to_hide_the_error(
    tmp_path, evaluations
):
    output = io.StringIO()
    loop = make_loop(tmp_path, PlainReporter(Console(file=output, width=1000), 10))
    fill_disk(loop.run_directory.checkpoint_path("last_finite"))

    def not_finite() -> None:
        raise NonFiniteError("critic loss", [1])

    loop.update = not_finite
    with pytest.raises(NonFiniteError, match="critic loss of task 1"):
        loop.run()
    assert "last_finite.pt cannot be written" in output.getvalue()
    assert "The state at this moment is lost." in output.getvalue()
    message = divergence("x", "y", loop.config, loop.run_directory, 3, torch.device("cpu"))
    assert "last_finite.pt" not in message
