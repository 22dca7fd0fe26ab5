"""A stand-in environment whose every number says what it is, and a loop on it."""

import numpy as np
from rich.console import Console

from agents import MultiTaskSAC, NetworkConfig, ReplayBuffer, SACConfig
from configs import RUN_KIND, TrainConfig
from mtrl_fair import make_combiner
from mtrl_fair.runs import RunDirectory
from scripts.training.display import PlainReporter
from scripts.training.loop import TrainingLoop

K, HORIZON = 2, 3
NAMES = ("first", "second")


class CountingEnvs:
    """Observation (task, episode, step); a time limit of 3 steps, SAME_STEP autoreset."""

    num_envs = K
    task_names = NAMES

    def __init__(self):
        self.episode = self.time = 0
        self.stepping = False
        self.sent = []

    def observe(self, time: int) -> np.ndarray:
        return np.array([[task, self.episode, time] for task in range(K)], np.float32)

    def reset(self):
        return self.observe(0), {}

    def step_async(self, actions):
        self.stepping = True
        self.sent.append(actions.copy())

    def step_wait(self):
        assert self.stepping
        self.stepping = False
        self.time += 1
        ended = np.full(K, self.time == HORIZON)
        observation = final = self.observe(self.time)
        if ended.all():
            self.episode, self.time = self.episode + 1, 0
            observation = self.observe(0)
        reward = np.arange(K) * 100.0 + self.time
        self.final_observation = np.where(ended[:, None], final, 0)
        infos = {"success": np.array([False, bool(ended[1])])}
        return observation, reward, np.zeros(K, bool), ended, infos

    def state_dict(self):
        assert not self.stepping
        return {"episode": self.episode, "time": self.time}

    def load_state_dict(self, state):
        self.episode, self.time = state["episode"], state["time"]
        return self.observe(self.time)


def make_loop(tmp_path, reporter=None, run=None, **options) -> TrainingLoop:
    network = NetworkConfig(width=8, depth=1)
    agent_config = SACConfig(actor=network, critic=network, batch_size=4)
    config = TrainConfig(
        agent=agent_config,
        **{"total_steps": 10, "eval_every": 4, "learning_starts": 3, "log_every": 2} | options,
    )
    combiners = [make_combiner("fairgrad", num_tasks=K) for _ in range(2)]
    return TrainingLoop(
        config,
        MultiTaskSAC(3, 1, K, *combiners, config=agent_config),
        ReplayBuffer(K, 100, 3, 1),
        CountingEnvs(),
        CountingEnvs(),
        run or RunDirectory.create(tmp_path / "run", {"total_steps": 10}, RUN_KIND),
        reporter or PlainReporter(Console(quiet=True), 10),
    )
