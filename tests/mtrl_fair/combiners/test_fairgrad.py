"""What the class says of its direction."""

import torch

from mtrl_fair import FairGrad


def test_uncorrelated_tasks_add_a_power_of_their_norm():
    """What the class says of alpha: ‖g‖^((1 - alpha) / (1 + alpha))."""
    norms = torch.tensor([0.01, 1.0, 50.0])
    for alpha in (0.5, 1.0, 2.0):
        _, info = FairGrad(alpha).combine(norms.diag(), torch.ones(3))
        share = info.weights * norms
        torch.testing.assert_close(share, norms ** ((1 - alpha) / (1 + alpha)), rtol=1e-4, atol=0)
