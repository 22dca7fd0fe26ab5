"""Meta-World: task sets and goals, vectorised stepping, evaluation. Knows no agent."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
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

_MODULES = {
    "Evaluation": "envs.evaluation",
    "MetaWorldVectorEnv": "envs.vector",
    "TaskSet": "envs.tasks",
    "WorkerError": "envs.workers.pool",
    "evaluate": "envs.evaluation",
    "make_vec": "envs.make",
}


def __getattr__(name: str) -> Any:
    # Imported when asked for (PEP 562), because every worker process imports this package on its
    # way to `envs.workers` and `envs.row`: plain imports here would bring it torch as well, by way
    # of `mtrl_fair`, and that takes longer than all else that a worker does before its first step.
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_MODULES[name]), name)
    globals()[name] = value  # the next access does not come here
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_MODULES})
