"""Meta-World: task sets and goals, vectorised stepping, evaluation. Knows no agent."""

from envs.evaluation import Evaluation, evaluate
from envs.make import make_vec
from envs.tasks import TaskSet
from envs.vector import MetaWorldVectorEnv
from envs.workers.pool import WorkerError

__all__ = [
    "Evaluation",
    "MetaWorldVectorEnv",
    "TaskSet",
    "WorkerError",
    "evaluate",
    "make_vec",
]
