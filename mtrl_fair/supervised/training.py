"""One training in its run directory, from the start or from where it was."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch

from mtrl_fair.runs import RunDirectory
from mtrl_fair.supervised.config import SupervisedConfig, to_dict
from mtrl_fair.supervised.trainer import COLUMNS, LATEST, RESUMABLE, Progress, Trainer


def train(
    config: SupervisedConfig,
    path: Path,
    report: Callable[[Progress], None] = lambda progress: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> bool:
    """Trains in a new run directory, or goes on with the one that is there.

    Returns whether the end was reached.

    Raises:
        RunError: another training is there, or its files cannot be used.
        DataError, NonFiniteError, LossBoundError: see `Trainer.run`.
    """
    torch.set_num_threads(config.threads)
    benchmark = config.make_benchmark()
    resumed = path.exists()
    if resumed:
        run = RunDirectory.open(path, COLUMNS)
        run.config = to_dict(config)
        run.lock()
    else:
        run = RunDirectory.create(path, to_dict(config), COLUMNS)
    try:
        trainer = Trainer(config, benchmark, run, torch.device(config.device), report)
        if resumed:
            # One that was killed before its first checkpoint begins again.
            if run.checkpoint_path(LATEST).is_file():
                trainer.load_state_dict(run.load_checkpoint(LATEST, RESUMABLE))
            # Within an epoch, what stands at this step is the epoch's end, which a kill cut off.
            whole = trainer.step - 1 if trainer.batch else trainer.step
            run.continue_from(trainer.step, run.config, kept_until=whole)
        return trainer.run(should_stop)
    finally:
        run.unlock()
