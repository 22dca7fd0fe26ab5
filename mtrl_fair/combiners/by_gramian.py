"""Methods that need the inner products of the task gradients: one backward per task."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from mtrl_fair.checks import check_gramian, check_num_tasks
from mtrl_fair.combiners.autograd import full_precision
from mtrl_fair.combiners.base import Combiner
from mtrl_fair.combiners.outputs import Aggregate
from mtrl_fair.gradients.gramian import weighted_sum


class GramianCombiner(Combiner):
    """Sums the task gradients with weights from their Gramian A = J Jᵀ.

    A method of your own says the weights. Here every task contributes a unit vector:

    >>> import torch
    >>> from mtrl_fair import GramianCombiner
    >>> class UnitGradients(GramianCombiner):
    ...     def solve(self, gramian):
    ...         weights = gramian.diagonal(dim1=-2, dim2=-1).rsqrt()
    ...         return weights, gramian.new_zeros(gramian.shape[:-2])
    >>> task_gradients = torch.tensor([[2.0, 0.0], [0.0, 4.0]])
    >>> direction, info = UnitGradients().combine(task_gradients, torch.ones(2))
    >>> print(direction, info.weights)
    tensor([1., 1.]) tensor([0.5000, 0.2500])
    """

    @abstractmethod
    def solve(self, gramian: Tensor) -> tuple[Tensor, Tensor]:
        """Returns weights [..., K] for Gramians [..., K, K], and the residual [...] of equation 4.

        A task whose gradient is zero must not influence the others; its own weight may be anything.
        The residual of a method that does not solve equation 4 is 0.
        """

    @torch.no_grad()
    @full_precision
    def forward(self, gramian: Tensor) -> Tensor:
        """Returns task weights [..., K] for Gramians [..., K, K], `scale` and `max_norm` included.

        Raises:
            ValueError: a Gramian that is not square or, on CPU, not symmetric.
            NonFiniteError: a Gramian that is not finite (on CPU).
        """
        check_gramian(gramian)
        check_num_tasks(gramian.shape[-1], self.num_tasks)
        weights, _ = self._solve_present(gramian, gramian.diagonal(dim1=-2, dim2=-1) > 0)
        squared_norm = (weights.unsqueeze(-2) @ gramian @ weights.unsqueeze(-1)).squeeze(-1)
        squared_sum = gramian.sum((-2, -1)).unsqueeze(-1)
        factor = self._factor(
            squared_norm.clamp(min=0).sqrt(), squared_sum.clamp(min=0).sqrt(), gramian.shape[-1]
        )
        return weights * factor

    def aggregate(
        self, rows: dict[str, Tensor], gramian: Tensor, task_losses: Tensor, present: Tensor
    ) -> Aggregate:
        weights, residual = self._solve_present(gramian, present)
        return Aggregate(weighted_sum(weights, rows), weights, residual)

    def _solve_present(self, gramian: Tensor, present: Tensor) -> tuple[Tensor, Tensor]:
        weights, residual = self.solve(gramian)
        return weights.where(present, 0), residual


def solve_on_host(gramian: Tensor, weights_of: Callable[[np.ndarray], np.ndarray]) -> Tensor:
    """Returns weights [..., K] from a numpy function of one Gramian [k, k] with positive diagonal.

    The function gets the tasks that have a gradient, in float64 and with gradients divided by their
    root mean square norm, so it must not depend on that scale. Waits for the device.
    """
    batch = gramian.detach().to("cpu", torch.float64).numpy()
    weights = np.zeros(batch.shape[:-1])
    for index in np.ndindex(batch.shape[:-2]):
        diagonal = np.diagonal(batch[index])
        active = np.flatnonzero(diagonal > 0)
        if len(active):
            matrix = batch[index][np.ix_(active, active)] / diagonal[active].mean()
            weights[(*index, active)] = weights_of(matrix)
    return torch.as_tensor(weights).to(gramian)
