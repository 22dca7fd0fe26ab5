"""The supervised trainer: batch, task losses, combiner, step; evaluate and checkpoint every epoch.

It knows no data set: a `Benchmark` brings data, model, losses and metrics.
"""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from mtrl_fair.combiners.by_losses import LossCombiner
from mtrl_fair.combiners.outputs import CombinerInfo
from mtrl_fair.errors import LossBoundError, NonFiniteError
from mtrl_fair.losses import alpha_fair_loss
from mtrl_fair.runs import RunDirectory, write_json
from mtrl_fair.runs.metrics import MetricLogger
from mtrl_fair.supervised.averages import Averages
from mtrl_fair.supervised.benchmark import Benchmark
from mtrl_fair.supervised.config import SupervisedConfig
from mtrl_fair.supervised.data import Batches, Data, to_device
from mtrl_fair.supervised.evaluation import Reported, Values, evaluate

LATEST, BEST = "latest", "best"
"""Checkpoints: to resume from; the network of the reported epoch (`report="best"`)."""

RESUMABLE = ("step", "trainer", "model", "optimizer", "scheduler", "combiner", "random")
"""What a checkpoint must hold to be resumed from."""

RESULTS = "results.json"
"""The reported epoch and its test metrics, written at the end."""

COLUMNS = ("step", "epoch", "split", "task", "metric", "value")
"""Of `evaluations.csv`."""

KEYS = {
    "losses": "losses",
    "weights": "fairness/weight",
    "gradient_norms": "fairness/gradient_norm",
    "direction_norm": "fairness/direction_norm",
    "residual": "fairness/residual",
    "conflicts": "fairness/conflicts",
}
"""Logged keys, of means over an epoch's steps."""


class Progress(NamedTuple):
    """How far a training is."""

    epoch: int
    """Epochs that are finished."""
    epochs: int
    share: float
    """Of all batches of all epochs."""
    values: Values | None
    """The latest metrics: validation's, or the test's where there is no validation split."""


class Trainer:
    """One training, from its present step to the end of its last epoch.

    Everything that decides later numbers is in the checkpoint, so that on the CPU a resumed
    training gives the same ones as a training that was never stopped.

    Raises:
        ValueError: the benchmark has no validation split, but its recipe or schedule needs one.
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
        torch.manual_seed(config.seed)
        self.model = benchmark.model(self.tasks).to(device)
        self.combiner = config.make_combiner(
            len(self.tasks), len(self.train_batches), benchmark.min_loss
        ).to(device)
        self.optimizer = torch.optim.Adam(
            [*self.model.parameters(), *self.combiner.parameters()], lr=config.learning_rate
        )
        self.scheduler = benchmark.scheduler(self.optimizer)
        if self.validation_batches is None and isinstance(self.scheduler, ReduceLROnPlateau):
            raise ValueError(
                f"{benchmark.name} has no validation split for ReduceLROnPlateau: give one, or"
                " another schedule"
            )
        self.step = 0
        self.epoch = 0
        self.batch = 0
        self.averages = Averages()
        self.steps_per_second: float | None = None
        self.reported = Reported(benchmark.recipe)

    def run(self, should_stop: Callable[[], bool] = lambda: False) -> bool:
        """Trains until the end or until asked to stop; returns whether the end was reached.

        At the end, `results.json` holds the reported test metrics.

        Raises:
            NonFiniteError: a loss, gradient or validation metric is not finite (with CUDA, losses
                and gradients are looked at before a checkpoint). The last checkpoint is kept.
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

    def save(self) -> None:
        """Writes the checkpoint that a resumed training continues from.

        Raises:
            NonFiniteError: a loss of this epoch or a parameter is not finite.
        """
        self._check()
        self.logger.flush()
        self.run_directory.save_checkpoint(LATEST, self.state_dict())

    def state_dict(self) -> dict[str, Any]:
        """Everything that decides later numbers."""
        random = {"cpu": torch.get_rng_state()}
        if self.device.type == "cuda":
            random["cuda"] = torch.cuda.get_rng_state(self.device)
        return {
            "step": self.step,
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scheduler": None if self.scheduler is None else self.scheduler.state_dict(),
            "combiner": self.combiner.state_dict(),
            "random": random,
            "trainer": {
                "epoch": self.epoch,
                "batch": self.batch,
                "averages": self.averages.state_dict(),
                "reported": self.reported.state_dict(),
            },
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continues from a checkpoint's state."""
        self.step = state["step"]
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.scheduler is not None:
            self.scheduler.load_state_dict(state["scheduler"])
        self.combiner.load_state_dict(state["combiner"])
        trainer = state["trainer"]
        self.epoch, self.batch = trainer["epoch"], trainer["batch"]
        self.averages.load_state_dict(trainer["averages"], self.device)
        self.reported.load_state_dict(trainer["reported"])
        torch.set_rng_state(state["random"]["cpu"])
        if self.device.type == "cuda" and "cuda" in state["random"]:
            torch.cuda.set_rng_state(state["random"]["cuda"], self.device)

    def _batches(self, data: Data, seed: int | None) -> Batches:
        return Batches(
            data,
            self.config.batch_size,
            seed,
            self.config.loader_workers,
            pinned=self.device.type == "cuda",
        )

    def _train_epoch(self, should_stop: Callable[[], bool]) -> bool:
        """The rest of an epoch's batches; False if it was asked to stop before their end."""
        self.model.train()
        started, first_step = time.monotonic(), self.step
        for batch in self.train_batches.epoch(self.epoch, self.batch):
            self._update(*to_device(batch, self.device))
            self.batch += 1
            self.step += 1
            self._report(None)
            if should_stop():
                return False
        if self.step > first_step:
            self.steps_per_second = (self.step - first_step) / (time.monotonic() - started)
        return True

    def _update(self, inputs: Any, targets: Any) -> None:
        """One step of the optimiser."""
        losses, present = self._losses(inputs, targets)
        self.optimizer.zero_grad()
        info = self.combiner.backward(
            self._transform(losses, present),
            self.model.shared_parameters(),
            self.model.task_parameters(),
            present,
        )
        self.optimizer.step()
        if self.combiner.uses_after_step:
            with torch.no_grad():
                self.combiner.after_step(self._transform(*self._losses(inputs, targets)))
        self.averages.add({"losses": losses, **self._loggable(info)}, present)

    def _loggable(self, info: CombinerInfo) -> dict[str, Tensor]:
        """What the combiner saw; a method of losses does not see the task gradients."""
        values = {"weights": info.weights, "direction_norm": info.direction_norm}
        if not isinstance(self.combiner, LossCombiner):
            values |= {
                "gradient_norms": info.gradient_norms,
                "residual": info.residual,
                "conflicts": info.conflicts.to(info.residual),
            }
        return values

    def _losses(self, inputs: Any, targets: Any) -> tuple[Tensor, Tensor | None]:
        """Task losses [K], and which tasks the batch says anything about [K] (None: all)."""
        outputs = self.model(inputs)
        losses = torch.stack(
            [
                self.benchmark.loss(task, output, targets)
                for task, output in zip(self.tasks, outputs, strict=True)
            ]
        )
        flags = [self.benchmark.present(task, targets) for task in self.tasks]
        present = [flag for flag in flags if flag is not None]
        if not present:
            return losses, None
        always = torch.ones_like(present[0])
        return losses, torch.stack([always if flag is None else flag for flag in flags])

    def _transform(self, losses: Tensor, present: Tensor | None) -> Tensor:
        if self.config.alpha_fair is None:
            return losses
        try:
            return alpha_fair_loss(losses, self.config.alpha_fair, present)
        except ValueError as error:
            counted = losses if present is None else losses.where(present, 1)
            found = zip(self.names, counted.tolist(), strict=True)
            wrong = ", ".join(f"{name} has {loss:.4g}" for name, loss in found if not loss > 0)
            raise LossBoundError(
                f"the α-fair transformation needs positive losses, but {wrong}: train without"
                " --alpha-fair"
            ) from error

    def _finish_epoch(self, should_stop: Callable[[], bool]) -> bool:
        """Evaluates and logs; False if it was asked to stop before its end."""
        self._check()
        epoch = self.epoch + 1
        validation, score, test = None, None, None
        if self.validation_batches is not None:
            validation = self._evaluate(self.validation_batches, should_stop)
            if validation is None:
                return False
            self._check_metrics(validation)
            score = self.benchmark.score(validation)
        wanted = self.reported.wants(score)
        if wanted:
            test = self._evaluate(self.test_batches, should_stop)
            if test is None:
                return False
            self.reported.take(epoch, score, test)
        self._log_epoch(epoch, {"validation": validation, "test": test})
        self._step_schedule(score)
        self.epoch, self.batch = epoch, 0
        if wanted and self.benchmark.recipe.report == "best":
            state = {"step": self.step, "model": self.model.state_dict()}
            self.run_directory.save_checkpoint(BEST, state)
        self._report(validation or test)
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
        for name, mean in self.averages.means().items():
            if mean.ndim:
                for task, entry in zip(self.names, mean.tolist(), strict=True):
                    scalars[f"{KEYS[name]}/{task}"] = entry
            else:
                scalars[KEYS[name]] = float(mean)
        rows: list[tuple[int | str | float, ...]] = []
        for split, values in evaluations.items():
            for name, value in (values or {}).items():
                scalars[f"{split}/{name}"] = value
                rows.append((epoch, split, *name.split("/", 1), value))
        self.logger.log(self.step, scalars)
        self.run_directory.add_evaluation(self.step, rows)

    def _check(self) -> None:
        """Raises NonFiniteError if a loss of this epoch or a parameter is not finite.

        On the CPU the combiner has looked already; on CUDA this waits for the device.
        """
        losses = self.averages.sums.get("losses", torch.zeros(()))
        wrong = (~losses.isfinite()).nonzero().flatten().tolist()
        if wrong:
            raise NonFiniteError("loss", wrong)
        sums = [parameter.detach().sum() for parameter in self.model.parameters()]
        if not torch.stack(sums).isfinite().all():
            raise NonFiniteError("gradient", [])

    def _check_metrics(self, values: Values) -> None:
        wrong = {name.split("/")[0] for name, value in values.items() if not math.isfinite(value)}
        if wrong:
            tasks = [k for k, name in enumerate(self.names) if name in wrong]
            raise NonFiniteError("validation metric", tasks)

    def _report(self, values: Values | None) -> None:
        share = (self.epoch + self.batch / len(self.train_batches)) / self.config.epochs
        self.report(Progress(self.epoch, self.config.epochs, share, values))
