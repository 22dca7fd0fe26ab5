"""The supervised trainer repeats: batch, task losses, combiner, step of the optimiser.

After every epoch it evaluates and saves a checkpoint. It knows no data set: a `Benchmark` brings
data, model, losses and metrics.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from mtrl_fair.runs import RunDirectory, RunKind, write_json
from mtrl_fair.runs.adam_states import check_adam_state
from mtrl_fair.runs.checkpoints import BEST, LATEST
from mtrl_fair.runs.metrics import MetricLogger
from mtrl_fair.supervised.averages import Averages
from mtrl_fair.supervised.batch_losses import (
    task_losses,
    task_losses_again,
    transform_losses,
)
from mtrl_fair.supervised.benchmark import Benchmark
from mtrl_fair.supervised.config import MAY_CHANGE, SupervisedConfig
from mtrl_fair.supervised.data import Batches, Data, to_device
from mtrl_fair.supervised.epoch_metrics import COLUMNS, evaluation_rows, mean_scalars, step_values
from mtrl_fair.supervised.evaluation import Reported, Values, evaluate
from mtrl_fair.supervised.finite_checks import check_metrics, check_training
from mtrl_fair.supervised.last_batch import check_last_batch
from mtrl_fair.supervised.torch_random import random_state, set_random_state

__all__ = ["RESULTS", "RESUMABLE", "RUN_KIND", "Progress", "Trainer"]

RUN_KIND = RunKind(COLUMNS, MAY_CHANGE, new_flag="--run-dir", resume_flag="--resume")
"""What is in the run directories of this trainer."""

RESUMABLE = ("step", "trainer", "model", "optimizer", "scheduler", "combiner", "random")
"""The keys that a checkpoint must hold to be resumed from."""

RESULTS = "results.json"
"""The file with the reported epoch and its test metrics, written at the end."""


class Progress(NamedTuple):
    """How far a training has come."""

    epoch: int
    """The number of finished epochs."""
    epochs: int
    """The number of all epochs."""
    share: float
    """The finished share of all batches of all epochs, from 0 to 1."""
    values: Values | None
    """Metrics of an evaluation that has just ended: validation, or test where there is no
    validation split."""


class Trainer:
    """One training, from its present step to the end of its last epoch.

    Everything that decides later numbers is in the checkpoint, so that on the CPU a resumed
    training gives the same ones as a training that was never stopped.

    Args:
        run: where the training writes its metrics, checkpoints and results.
        report: is called with the progress after every batch and every epoch.

    Raises:
        ValueError: the benchmark has no validation split, but its recipe or schedule needs one.
        BatchSizeError: the last batch has one sample, on which the network cannot train.
        DataError: that sample's file is missing or wrong.
    """

    def __init__(
        self,
        config: SupervisedConfig,
        benchmark: Benchmark,
        run: RunDirectory,
        device: torch.device,
        report: Callable[[Progress], None] = lambda progress: None,
    ):
        self.config = config
        self.benchmark = benchmark
        self.run_directory = run
        self.device = device
        self.report = report
        names = [task.name for task in benchmark.tasks]
        self.tasks = [names.index(config.task)] if config.task else list(range(len(names)))
        self.names = [names[task] for task in self.tasks]

        splits = benchmark.splits()
        self.train_batches = self._batches(splits.train, config.seed)
        self.test_batches = self._batches(splits.test, None)
        self.validation_batches = (
            None if splits.validation is None else self._batches(splits.validation, None)
        )
        if self.validation_batches is None and benchmark.recipe.report == "best":
            raise ValueError(
                f"{benchmark.name} reports the best epoch, but has no validation split: give one,"
                ' or report="last"'
            )
        # The seed comes after the splits, so that no data set can shift the initialisation.
        torch.manual_seed(config.seed)
        self.model = benchmark.model(self.tasks).to(device)
        self.combiner = config.make_combiner(
            len(self.tasks), len(self.train_batches), benchmark.min_loss
        ).to(device)
        # The combiner's parameters are uncertainty weighting's log-variances.
        self.optimizer = torch.optim.Adam(
            [*self.model.parameters(), *self.combiner.parameters()], lr=config.learning_rate
        )
        self.scheduler = benchmark.scheduler(self.optimizer)
        if self.validation_batches is None and isinstance(self.scheduler, ReduceLROnPlateau):
            raise ValueError(
                f"{benchmark.name} has no validation split for ReduceLROnPlateau: give one, or"
                " another schedule"
            )
        self.model.train()
        check_last_batch(
            splits.train,
            config.batch_size,
            lambda inputs, targets: self._losses_again(
                to_device(inputs, device), to_device(targets, device), random_state(device)
            ),
        )
        self.step = 0
        self.epoch = 0
        self.batch = 0
        self.averages = Averages()
        self.steps_per_second: float | None = None
        self.reported = Reported(benchmark.recipe)
        self.logger: MetricLogger | None = None

    def run(self, should_stop: Callable[[], bool] = lambda: False) -> bool:
        """Trains until the end or until asked to stop; returns whether the end was reached.

        At the end, `results.json` holds the reported test metrics.

        Raises:
            NonFiniteError: a loss, gradient or validation metric is not finite (with CUDA, losses
                and gradients are checked before a checkpoint only). The last checkpoint is kept.
            LossBoundError: the method needs losses above a bound, and one is not.
            DataError: a sample's file is missing or wrong.
        """
        self.logger = MetricLogger(self.run_directory.path, self.step or None)
        try:
            if self.step == 0:
                self.save()
            while self.epoch < self.config.epochs:
                if not (self._train_epoch(should_stop) and self._finish_epoch(should_stop)):
                    self.save()
                    return False
                self.save()
            write_json(self.run_directory.path / RESULTS, self.reported.result())
            return True
        finally:
            self.logger.close()
            self.logger = None

    def save(self) -> None:
        """Writes the checkpoint that a resumed training continues from.

        Raises:
            NonFiniteError: a loss of this epoch or a parameter is not finite.
        """
        self._check()
        if self.logger is not None:
            self.logger.flush()
        self.run_directory.save_checkpoint(LATEST, self.state_dict())

    def state_dict(self) -> dict[str, Any]:
        """Returns everything that decides later numbers."""
        return {
            "step": self.step,
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scheduler": None if self.scheduler is None else self.scheduler.state_dict(),
            "combiner": self.combiner.state_dict(),
            "random": random_state(self.device),
            "trainer": {
                "epoch": self.epoch,
                "batch": self.batch,
                "averages": self.averages.state_dict(),
                "reported": self.reported.state_dict(),
            },
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continues from what `state_dict` returned.

        Raises:
            ValueError and others: see `mtrl_fair.runs.checkpoints.state_of`. A part of the state
                may have been loaded then.
        """
        self.step = state["step"]
        self.model.load_state_dict(state["model"])
        check_adam_state(self.optimizer, state["optimizer"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.scheduler is not None:
            self.scheduler.load_state_dict(state["scheduler"])
        self.combiner.load_state_dict(state["combiner"])
        trainer = state["trainer"]
        for name, most in (("epoch", self.config.epochs), ("batch", len(self.train_batches))):
            if type(trainer[name]) is not int or not 0 <= trainer[name] <= most:
                raise ValueError(f"{name} is {trainer[name]!r}, expected from 0 to {most}")
        self.epoch, self.batch = trainer["epoch"], trainer["batch"]
        self.averages.load_state_dict(trainer["averages"], self.device)
        self.reported.load_state_dict(trainer["reported"])
        set_random_state(state["random"], self.device)

    def _batches(self, data: Data, seed: int | None) -> Batches:
        return Batches(
            data,
            self.config.batch_size,
            seed,
            self.config.loader_workers,
            pinned=self.device.type == "cuda",
        )

    def _train_epoch(self, should_stop: Callable[[], bool]) -> bool:
        """Trains on the rest of an epoch's batches; False if it was asked to stop before."""
        self.model.train()
        started, first_step = time.monotonic(), self.step
        for batch in self.train_batches.epoch(self.epoch, self.batch):
            self._update(*to_device(batch, self.device))
            self.batch += 1
            self.step += 1
            self._report_progress(None)
            if should_stop():
                return False
        if self.step > first_step:
            self.steps_per_second = (self.step - first_step) / (time.monotonic() - started)
        return True

    def _update(self, inputs: Any, targets: Any) -> None:
        """Makes one step of the optimiser."""
        start = random_state(self.device) if self.combiner.uses_after_step else None
        losses, present = task_losses(self.model, self.benchmark, self.tasks, inputs, targets)
        self.optimizer.zero_grad()
        info = self.combiner.backward(
            transform_losses(losses, present, self.config.alpha_fair, self.names),
            self.model.shared_parameters(),
            self.model.task_parameters(),
            present,
        )
        self.optimizer.step()
        if start is not None:  # famo: a second forward on the same batch
            after = self._losses_again(inputs, targets, start)
            self.combiner.after_step(transform_losses(*after, self.config.alpha_fair, self.names))
        self.averages.add(step_values(losses, info, self.combiner), present)

    def _losses_again(
        self, inputs: Any, targets: Any, start: dict[str, Tensor]
    ) -> tuple[Tensor, Tensor | None]:
        return task_losses_again(
            self.model, self.benchmark, self.tasks, inputs, targets, start, self.device
        )

    def _finish_epoch(self, should_stop: Callable[[], bool]) -> bool:
        """Evaluates and logs; False if it was asked to stop before its end."""
        self._check()
        epoch = self.epoch + 1
        validation, score, test = None, None, None
        if self.validation_batches is not None:
            validation = self._evaluate(self.validation_batches, should_stop)
            if validation is None:
                return False
            check_metrics(validation, self.names)
            score = self.benchmark.score(validation)
        is_reported = self.reported.wants(score)
        if is_reported:
            test = self._evaluate(self.test_batches, should_stop)
            if test is None:
                return False
            self.reported.take(epoch, score, test)
        self._log_epoch(epoch, {"validation": validation, "test": test})
        self._step_schedule(score)
        self.epoch, self.batch = epoch, 0
        if is_reported and self.benchmark.recipe.report == "best":
            state = {"step": self.step, "model": self.model.state_dict()}
            self.run_directory.save_checkpoint(BEST, state)
        self._report_progress(validation or test)
        return True

    def _step_schedule(self, score: float | None) -> None:
        with warnings.catch_warnings():
            # After a resume, the epoch's steps may all have been taken by an earlier process.
            warnings.filterwarnings("ignore", "Detected call of `lr_scheduler.step", UserWarning)
            if isinstance(self.scheduler, ReduceLROnPlateau):
                assert score is not None
                self.scheduler.step(-score)
            elif isinstance(self.scheduler, LRScheduler):
                self.scheduler.step()

    def _evaluate(self, batches: Batches, should_stop: Callable[[], bool]) -> Values | None:
        return evaluate(self.model, self.benchmark, self.tasks, batches, self.device, should_stop)

    def _log_epoch(self, epoch: int, evaluations: dict[str, Values | None]) -> None:
        scalars: dict[str, float] = {
            "charts/epoch": epoch,
            "charts/learning_rate": self.optimizer.param_groups[0]["lr"],
        }
        if self.steps_per_second is not None:
            scalars["charts/steps_per_second"] = self.steps_per_second
        scalars |= mean_scalars(self.averages.means(), self.names)
        rows: list[tuple[int | str | float, ...]] = []
        for split, values in evaluations.items():
            if values is not None:
                scalars |= {f"{split}/{name}": value for name, value in values.items()}
                rows += evaluation_rows(epoch, split, values)
        assert self.logger is not None
        self.logger.log(self.step, scalars)
        self.run_directory.add_evaluation(self.step, rows)

    def _check(self) -> None:
        losses = self.averages.sums.get("losses", torch.zeros(()))
        check_training(losses, self.model.parameters())

    def _report_progress(self, values: Values | None) -> None:
        share = (self.epoch + self.batch / len(self.train_batches)) / self.config.epochs
        self.report(Progress(self.epoch, self.config.epochs, share, values))
