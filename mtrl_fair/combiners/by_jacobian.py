"""Methods that need the task gradients themselves: one backward per task."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable

from torch import Tensor

from mtrl_fair.combiners.base import Aggregate, Combiner
from mtrl_fair.gradients.gramian import concatenated


class JacobianCombiner(Combiner):
    """A direction that is no weighted sum of the current task gradients."""

    @abstractmethod
    def direct(self, jacobian: Tensor, present: Tensor) -> tuple[Tensor, Tensor]:
        """The direction [P] and weights [K] for task gradients [K, P].

        Args:
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
