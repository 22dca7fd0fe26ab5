"""Message passing on complete graphs of molecules (Gilmer et al. 2017); needs torch_geometric."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional
from torch_geometric.data import Batch
from torch_geometric.nn import NNConv, Set2Set

from mtrl_fair.supervised.benchmarks.molecules.graphs import ATOM_FEATURES, BOND_TYPES


class MoleculeNetwork(nn.Module):
    """Maps graphs to features [B, width], the trunk for molecules.

    In each round, an atom receives the mean of all other atoms' states, each multiplied by a matrix
    that a network computes from the edge. A GRU updates the atom's state with it. In the end,
    Set2Set summarises the states of a molecule.
    """

    width, edge_width, rounds = 64, 128, 3

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Linear(ATOM_FEATURES, self.width)
        edge_network = nn.Sequential(
            nn.Linear(BOND_TYPES + 1, self.edge_width),
            nn.ReLU(),
            nn.Linear(self.edge_width, self.width**2),
        )
        self.message = NNConv(self.width, self.width, edge_network, aggr="mean")
        self.update = nn.GRUCell(self.width, self.width)
        self.readout = Set2Set(self.width, processing_steps=3)
        self.output = nn.Linear(2 * self.width, self.width)

    def forward(self, graphs: Batch) -> Tensor:
        """Computes the features of each graph in a `Batch`."""
        state = functional.relu(self.embedding(graphs.x))
        for _ in range(self.rounds):
            message = self.message(state, graphs.edge_index, graphs.edge_attr)
            state = self.update(functional.relu(message), state)
        pooled = self.readout(state, graphs.batch, dim_size=graphs.num_graphs)
        return functional.relu(self.output(pooled))
