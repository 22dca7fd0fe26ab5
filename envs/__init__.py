"""Meta-World: task sets and goals, vectorised stepping, evaluation. Knows no agent."""

from envs.evaluation import Evaluation, evaluate
from envs.processes import WorkerError
from envs.tasks import TaskSet
from envs.vector import MetaWorldVectorEnv, make_vec

__all__ = [
    "Evaluation",
    "MetaWorldVectorEnv",
    "TaskSet",
    "WorkerError",
    "evaluate",
    "make_vec",
]
