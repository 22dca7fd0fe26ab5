"""One training in its run directory, from the start or from where it was stopped."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch

from mtrl_fair.runs import RunDirectory
from mtrl_fair.runs.checkpoints import LATEST, state_of
from mtrl_fair.supervised.config import SupervisedConfig, to_dict
from mtrl_fair.supervised.trainer import RESUMABLE, RUN_KIND, Progress, Trainer


def train(
    config: SupervisedConfig,
    path: Path,
    report: Callable[[Progress], None] = lambda progress: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> bool:
    """Trains in a new run directory, or continues the training that is there.

    Args:
        report: is called with the progress after every batch and every epoch.
        should_stop: is asked after every batch; when it says so, a checkpoint is saved.

    Returns:
        Whether the end was reached.

    Raises:
        RunError: another training is there, or its files cannot be used.
        BatchSizeError: see `Trainer`.
        DataError, NonFiniteError, LossBoundError: see `Trainer.run`.
    """
    torch.set_num_threads(config.threads)
    benchmark = config.make_benchmark()
    is_resumed = path.exists()
    if is_resumed:
        run = RunDirectory.open(path, RUN_KIND)
        run.config = to_dict(config)
        run.lock()
    else:
        run = RunDirectory.create(path, to_dict(config), RUN_KIND)
    try:
        trainer = Trainer(config, benchmark, run, torch.device(config.device), report)
        if is_resumed:
            # A run that was killed before its first checkpoint begins again.
            if run.checkpoint_path(LATEST).is_file():
                state = run.load_checkpoint(LATEST, RESUMABLE)
                with state_of(run.checkpoint_path(LATEST)):
                    trainer.load_state_dict(state)
            # Where the checkpoint lies within an epoch, a line at its very step is that epoch's
            # end, written before a kill. The epoch will end again and write it again.
            last_kept_step = trainer.step - 1 if trainer.batch else trainer.step
            run.continue_from(trainer.step, run.config, kept_until=last_kept_step)
        return trainer.run(should_stop)
    finally:
        run.unlock()
