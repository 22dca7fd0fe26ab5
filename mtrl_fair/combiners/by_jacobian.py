"""Methods that need the task gradients themselves: one backward per task."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable

from torch import Tensor

from mtrl_fair.combiners.base import Combiner
from mtrl_fair.combiners.outputs import Aggregate
from mtrl_fair.gradients.gramian import concatenated


class JacobianCombiner(Combiner):
    """Computes a direction that is no weighted sum of the current task gradients.

    A method of your own says the direction. Here every coordinate goes by majority vote:

    >>> import torch
    >>> from mtrl_fair import JacobianCombiner
    >>> class SignVote(JacobianCombiner):
    ...     def direct(self, jacobian, present):
    ...         return jacobian.sign().sum(0).sign(), present.to(jacobian)
    >>> task_gradients = torch.tensor([[0.1, 5.0], [0.2, -1.0], [-9.0, -2.0]])
    >>> SignVote().combine(task_gradients, torch.ones(3))[0]
    tensor([ 1., -1.])
    """

    @abstractmethod
    def direct(self, jacobian: Tensor, present: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the direction [P], and weights [K] for the record, of task gradients [K, P].

        Args:
            jacobian: [K, P], at least in float32; 0 for tasks that are not present.
            present: [K] (bool).
        """

    def aggregate(
        self, rows: dict[str, Tensor], gramian: Tensor, task_losses: Tensor, present: Tensor
    ) -> Aggregate:
        direction, weights = self.direct(concatenated(rows), present)
        parts = direction.split([row.shape[1] for row in rows.values()])
        named = dict(zip(rows, parts, strict=True))
        return Aggregate(named, weights, weights.new_zeros(()))

    def scalarize(
        self,
        task_losses: Tensor,
        shared_parameters: Iterable[Tensor],
        present: Tensor | None = None,
    ) -> Tensor:
        raise TypeError(
            f"{type(self).__name__} is no weighted sum of task losses, so no scalar has its"
            " direction as gradient: use backward or combine"
        )
