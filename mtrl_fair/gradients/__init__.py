"""The gradients of K tasks, for the price of about one backward."""

from mtrl_fair.gradients.check import check_task_gradients
from mtrl_fair.gradients.per_task import task_gradients, task_losses_and_gradients
from mtrl_fair.gradients.task_parameter import shared_linear

__all__ = [
    "check_task_gradients",
    "shared_linear",
    "task_gradients",
    "task_losses_and_gradients",
]
