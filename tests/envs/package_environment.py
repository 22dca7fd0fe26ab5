"""The package's own environment, which ours is compared with."""

from metaworld.env_dict import ALL_V3_ENVIRONMENTS


class Package:
    """The package's own environment, reset to given goals in turn."""

    def __init__(self, name: str, goals, reward_version: str = "v2"):
        self.env = ALL_V3_ENVIRONMENTS[name](reward_function_version=reward_version)
        self.goals = goals
        self.goal = -1
        self.reset()

    def reset(self) -> None:
        self.goal = (self.goal + 1) % len(self.goals)
        self.env.set_task(self.goals[self.goal])
        self.observation, _ = self.env.reset()
