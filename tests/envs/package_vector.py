"""The package's environments in gymnasium's own vector environment, whose contract we keep."""

import gymnasium
import metaworld
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from gymnasium.wrappers import RecordEpisodeStatistics, TimeLimit
from metaworld.env_dict import ALL_V3_ENVIRONMENTS
from metaworld.wrappers import AutoTerminateOnSuccessWrapper

from envs import TaskSet


class GoalsInTurn(gymnasium.Wrapper):
    """Resets to the goals in turn, as ours does with `goal_order="sequential"`."""

    def __init__(self, env: gymnasium.Env, goals: list[metaworld.Task]):
        super().__init__(env)
        self.goals, self.next = goals, 0

    def reset(self, **kwargs):
        self.unwrapped.set_task(self.goals[self.next])
        self.next = (self.next + 1) % len(self.goals)
        return super().reset(**kwargs)


def package_vector(task_set: TaskSet, max_episode_steps: int) -> SyncVectorEnv:
    """The wrappers, in the order in which `metaworld.make_mt_envs` has them."""

    def make(name: str, goals: list[metaworld.Task]) -> gymnasium.Env:
        env = AutoTerminateOnSuccessWrapper(
            TimeLimit(ALL_V3_ENVIRONMENTS[name](), max_episode_steps)
        )
        env.toggle_terminate_on_success(False)
        return GoalsInTurn(RecordEpisodeStatistics(env), goals)

    rows = [lambda row=row: make(*row) for row in zip(*task_set, strict=True)]
    return SyncVectorEnv(rows, autoreset_mode=AutoresetMode.SAME_STEP)
