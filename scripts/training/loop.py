"""The training loop: act, step, store, sample, update; evaluate and checkpoint every so often."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterator
from typing import Any, Protocol

import numpy as np
import torch
from jaxtyping import Float

from agents import MultiTaskSAC, ReplayBuffer, Transition, make_updater
from configs import TrainConfig
from configs.build import overlaps, part_seed
from envs import Evaluation, MetaWorldVectorEnv, evaluate
from mtrl_fair import NonFiniteError
from mtrl_fair.errors import WriteError
from mtrl_fair.runs import RunDirectory
from mtrl_fair.runs.checkpoints import BEST, LAST_FINITE, LATEST
from mtrl_fair.runs.metrics import MetricLogger
from scripts.training.episodes import TrainingEpisodes
from scripts.training.evaluations import evaluation_rows, evaluation_scalars

RESUMABLE = ("step", "agent", "replay", "envs", "loop")
"""What a checkpoint must hold to be resumed from."""


class Reporter(Protocol):
    """Shows a run while it goes on."""

    def advance(self, step: int) -> None:
        """Shows that a step was made."""

    def metrics(self, step: int, metrics: dict[str, float]) -> None:
        """Shows the training metrics that were logged at a step."""

    def evaluating(self, step: int, share: float) -> None:
        """Shows which share of the evaluation at a step is done."""

    def evaluation(self, step: int, evaluation: Evaluation) -> None:
        """Shows the evaluation at a step."""

    def warning(self, text: str) -> None:
        """Shows what the user should know or mend while the run goes on."""


class TrainingLoop:
    """Trains one run, from its present step to `config.total_steps`, or to the first evaluation
    that reaches `config.stop_at_success`.

    Everything that decides the numbers of later steps is in the checkpoint, so a resumed run gives
    the same ones as a run that was never stopped.
    """

    def __init__(
        self,
        config: TrainConfig,
        agent: MultiTaskSAC,
        replay: ReplayBuffer,
        envs: MetaWorldVectorEnv,
        evaluation_envs: MetaWorldVectorEnv,
        run: RunDirectory,
        reporter: Reporter,
    ):
        self.config = config
        self.agent = agent
        self.replay = replay
        self.envs = envs
        self.evaluation_envs = evaluation_envs
        self.run_directory = run
        self.reporter = reporter

        self.overlap = overlaps(config, agent.device)
        # Samples a batch from the replay and updates the agent with it.
        self.update = make_updater(
            agent, replay, config.agent.batch_size, graph=config.cuda_graph == "auto"
        )
        self.observation: np.ndarray | None = None
        self.step = 0
        self.evaluated_step = 0
        self.best_success = -1.0
        # Those of the last update, until they are logged.
        self.latest_metrics: dict[str, torch.Tensor] = {}
        self.generator = np.random.default_rng(part_seed(config, "exploration"))
        self.episodes = TrainingEpisodes(envs.num_envs)

        # Only while the loop runs.
        self.logger: MetricLogger | None = None
        # The duration of the run when it was last saved, that of earlier commands included.
        self.seconds = 0.0
        # When the run would have started if one command had made all of it.
        self.started = time.monotonic()
        # Time and step of the last log, from which steps per second are counted.
        self.clock, self.clock_step = self.started, 0

    def run(self, should_stop: Callable[[], bool] = lambda: False) -> bool:
        """Trains until the end or until asked to stop; returns whether the run is finished: at its
        end, and evaluated there.

        Raises:
            NonFiniteError: an action, reward, loss or gradient is not finite. The checkpoint of the
                last evaluation is kept, and `last_finite.pt` holds the state at that moment, whose
                update may be half done but has taken no step that is not finite. It is for
                diagnosis only, and no command resumes from it: if updates overlap steps, its
                environments are one step ahead of its replay and observation, so a run that
                continued from it would store a wrong transition. With CUDA, losses and gradients
                are looked at when metrics are logged.
        """
        self.started = time.monotonic() - self.seconds
        self.logger = MetricLogger(self.run_directory.path, self.step or None)
        try:
            if self.observation is None:
                self.observation, _ = self.envs.reset()
                self.save()
            self.clock, self.clock_step = time.monotonic(), self.step
            while True:
                if self._evaluation_due() and not self._evaluate(should_stop):
                    break
                if self._limits_reached() or should_stop():
                    break
                self._advance()
                self.reporter.advance(self.step)
                if self.step % self.config.log_every == 0:
                    self._log()
            self.save()
            return self.config.is_finished(self.step, self.best_success, self.evaluated_step)
        except NonFiniteError:
            with self._warn_if_unwritten("The state at this moment is lost"):
                self.run_directory.save_checkpoint(LAST_FINITE, self.state_dict())
            raise
        finally:
            self.logger.close()
            self.logger = None

    def save(self) -> None:
        """Writes the checkpoint that `--resume` continues from.

        Raises:
            NonFiniteError: see `MultiTaskSAC.check`.
            WriteError: it cannot be written. The one before is kept.
        """
        self.agent.check()
        if self.logger is not None:
            with self._warn_if_unwritten():
                self.logger.flush()
        self.seconds = time.monotonic() - self.started
        self.run_directory.save_checkpoint(LATEST, self.state_dict())

    def state_dict(self) -> dict[str, Any]:
        """Returns everything that decides the numbers of later steps."""
        return {
            "step": self.step,
            "agent": self.agent.state_dict(),
            "replay": self.replay.state_dict(),
            "envs": self.envs.state_dict(),
            "loop": {
                "evaluated_step": self.evaluated_step,
                "best_success": self.best_success,
                "seconds": self.seconds,
                "latest_metrics": {k: v.clone() for k, v in self.latest_metrics.items()},
                "generator": self.generator.bit_generator.state,
                **self.episodes.state_dict(),
            },
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continues from a checkpoint's state."""
        self.step = state["step"]
        self.agent.load_state_dict(state["agent"])
        self.replay.load_state_dict(state["replay"])
        self.observation = self.envs.load_state_dict(state["envs"])
        loop = state["loop"]
        self.evaluated_step = loop["evaluated_step"]
        self.best_success = loop["best_success"]
        self.seconds = loop["seconds"]
        self.started = time.monotonic() - self.seconds
        self.latest_metrics = loop["latest_metrics"]
        self.generator.bit_generator.state = loop["generator"]
        self.episodes.load_state_dict(loop)

    def _advance(self) -> None:
        """Makes one vector step and this step's updates: after it or, with overlap, during it."""
        assert self.observation is not None
        learning = self.step >= self.config.learning_starts
        action = self.agent.act(self.observation) if learning else self._random_action()
        self.envs.step_async(action)
        try:
            if learning and self.overlap:
                self._learn()
        finally:  # even if an update failed: a state can only be saved between steps
            next_observation, reward, terminated, truncated, infos = self.envs.step_wait()
        ended = terminated | truncated
        # Where an episode ended, `next_observation` is already the first one of the next episode:
        # to store it would make the critic bootstrap across the reset.
        final_observation = np.where(ended[:, None], self.envs.final_observation, next_observation)
        finite = np.isfinite(reward + final_observation.sum(1) + next_observation.sum(1))
        if not finite.all():
            raise NonFiniteError("reward or observation", np.flatnonzero(~finite).tolist())
        self.replay.add(Transition(self.observation, action, reward, terminated, final_observation))
        self.observation = next_observation
        self.episodes.add(reward, infos["success"], ended)
        if learning and not self.overlap:
            self._learn()
        self.step += 1

    def _random_action(self) -> Float[np.ndarray, "task act"]:
        shape = (self.envs.num_envs, self.agent.action_size)
        return self.generator.uniform(-1, 1, shape).astype(np.float32)

    def _learn(self) -> None:
        """Makes this step's share of the updates, whose number follows from the step alone."""
        rate = self.config.updates_per_step
        for _ in range(math.floor((self.step + 1) * rate) - math.floor(self.step * rate)):
            self.latest_metrics = self.update()

    def _log(self) -> None:
        """Writes the training metrics since the last log."""
        assert self.logger is not None
        self.agent.check()
        now = time.monotonic()
        speed = (self.step - self.clock_step) / (now - self.clock)
        scalars = {"charts/steps_per_second": speed}
        metrics = {"reward/deviation/{task}": self.replay.reward_deviation} | self.latest_metrics
        for key, value in metrics.items():
            values = value.tolist()  # waits for the device: only here do metrics leave it
            if isinstance(values, list):
                for name, entry in zip(self.envs.task_names, values, strict=True):
                    scalars[key.format(task=name)] = entry
            else:
                scalars[key] = float(values)
        scalars |= self.episodes.take(self.envs.task_names)
        self.latest_metrics = {}
        with self._warn_if_unwritten():
            self.logger.log(self.step, scalars)
        self.reporter.metrics(self.step, scalars)
        self.clock, self.clock_step = time.monotonic(), self.step

    @contextlib.contextmanager
    def _warn_if_unwritten(
        self, consequence: str = "Training goes on and tries again"
    ) -> Iterator[None]:
        """Goes on where a file cannot be written, and says what follows."""
        try:
            yield
        except WriteError as error:
            self.reporter.warning(f"{error}. {consequence}.")

    def _limits_reached(self) -> list[str]:
        return self.config.limits_reached(self.step, self.best_success)

    def _evaluation_due(self) -> bool:
        """Returns whether this step is one to evaluate at, and has not been evaluated."""
        is_due = self.step % self.config.eval_every == 0 or bool(self._limits_reached())
        return self.step > 0 and is_due and self.evaluated_step != self.step

    def _evaluate(self, should_stop: Callable[[], bool]) -> bool:
        """Evaluates, logs and checkpoints; returns False if it was asked to stop half-way."""
        assert self.logger is not None
        self.agent.check()
        self.reporter.evaluating(self.step, 0.0)
        started = time.monotonic()
        evaluation = evaluate(
            lambda observation: self.agent.act(observation, deterministic=True),
            self.evaluation_envs,
            self.config.eval_episodes,
            should_stop,
            lambda share: self.reporter.evaluating(self.step, share),
        )
        if evaluation is None:
            return False
        seconds = round(time.monotonic() - self.started, 1)
        scalars = evaluation_scalars(evaluation) | {"charts/seconds": seconds}
        with self._warn_if_unwritten():
            self.logger.log(self.step, scalars)
        with self._warn_if_unwritten():
            self.run_directory.add_evaluation(self.step, evaluation_rows(evaluation))
        self.evaluated_step = self.step
        if evaluation.mean_success > self.best_success:
            self.best_success = evaluation.mean_success
            with self._warn_if_unwritten("It keeps the policy of an earlier evaluation"):
                best = {"step": self.step, "agent": self.agent.state_dict()}
                self.run_directory.save_checkpoint(BEST, best)
        with self._warn_if_unwritten():
            self.save()
        self.reporter.evaluation(self.step, evaluation)
        self.clock += time.monotonic() - started  # steps per second are those of training
        return True
