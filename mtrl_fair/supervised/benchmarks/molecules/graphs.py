"""Reads QM9's molecules and makes complete graphs of them; needs torch_geometric."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor
from torch_geometric.data import Batch
from torch_geometric.datasets import QM9

from mtrl_fair.errors import DataError
from mtrl_fair.supervised.data import Data, Randomness

ATOM_FEATURES, BOND_TYPES, TARGETS = 11, 4, 19


class Molecules(NamedTuple):
    """M molecules one after the other, with N atoms and E bonds (each in both directions)."""

    atoms: Tensor
    """[N, 11]"""
    positions: Tensor
    """[N, 3], in ångström."""
    bonds: Tensor
    """[2, E] (int64), the two atoms of each bond, counted within their molecule."""
    bond_types: Tensor
    """[E, 4], one-hot: single, double, triple, aromatic."""
    properties: Tensor
    """[M, 19], torch_geometric's targets in its units."""
    first_atom: Tensor
    """[M + 1], the index of each molecule's first atom; the last entry is N."""
    first_bond: Tensor
    """[M + 1], the index of each molecule's first bond; the last entry is E."""


class CompleteGraphs(Data):
    """Returns molecules as graphs in which every atom is joined to every other.

    Args:
        molecules: all molecules.
        targets: [M, K] (float32), of all molecules.
        chosen: [N], the indices of the molecules in this data set.
    """

    def __init__(self, molecules: Molecules, targets: Tensor, chosen: Tensor):
        self.molecules = molecules
        self.targets = targets
        self.chosen = chosen

    def __len__(self) -> int:
        return len(self.chosen)

    def batch(self, indices: Sequence[int], randomness: Randomness | None) -> tuple[Batch, Tensor]:
        """Returns a torch_geometric `Batch` of `complete_graphs`, and targets [B, K]."""
        chosen = self.chosen[torch.as_tensor(indices)]
        return complete_graphs(self.molecules, chosen), self.targets[chosen]


class LocalQM9(QM9):
    """Is torch_geometric's data set, except that it never downloads and executes no file."""

    has_download = False

    def _process(self) -> None:
        """Writes the processed file if it is not there.

        torch_geometric's own method would unpickle the files that say how the data were prepared,
        and so execute what they hold.
        """
        for name in ("pre_transform.pt", "pre_filter.pt"):
            path = Path(self.processed_dir) / name
            if path.exists() and torch.load(path, weights_only=True) != "None":
                raise ValueError(f"{path} says that the molecules were changed or chosen")
        if not Path(self.processed_paths[0]).is_file():
            Path(self.processed_dir).mkdir(parents=True, exist_ok=True)
            self.process()


def read_molecules(folder: Path) -> Molecules:
    """Reads QM9 from what torch_geometric downloaded into a folder.

    If only raw files are there, torch_geometric writes the processed one beside them.

    Raises:
        DataError: files are missing or cannot be read.
    """
    processed = folder / "processed" / "data_v3.pt"
    # torch_geometric reads the original files with rdkit, its own version of them without.
    with_rdkit = find_spec("rdkit") is not None
    names = ["gdb9.sdf", "gdb9.sdf.csv", "uncharacterized.txt"] if with_rdkit else ["qm9_v3.pt"]
    raw = [folder / "raw" / name for name in names]
    if not (processed.is_file() or all(path.is_file() for path in raw)):
        raise DataError(
            f"there is neither {processed} nor {' with '.join(map(str, raw))}; this downloads QM9:"
            f' python -c "from torch_geometric.datasets import QM9; QM9({str(folder)!r})"'
        )
    try:
        with warnings.catch_warnings():
            # torch_geometric would go on to load what can execute code.
            warnings.filterwarnings("error", "Weights only load failed")
            dataset = LocalQM9(str(folder))
        data, slices = dataset._data, dataset.slices
        molecules = Molecules(
            data.x,
            data.pos,
            data.edge_index,
            data.edge_attr,
            data.y,
            slices["x"],
            slices["edge_index"],
        )
        _check_molecules(molecules)
    except OSError as error:
        raise DataError(f"QM9 in {folder} cannot be read or prepared: {error}") from error
    except Exception as error:  # whatever a wrong file makes torch_geometric raise
        wrong = processed if processed.is_file() else raw[0]
        raise DataError(
            f"torch_geometric cannot read {wrong} ({type(error).__name__}: {error}): remove it, and"
            " download it again if it was downloaded"
        ) from error
    widths = [tensor.shape[1] for tensor in (molecules.atoms, molecules.bond_types, data.y)]
    if widths != [ATOM_FEATURES, BOND_TYPES, TARGETS]:
        raise DataError(
            f"the molecules in {folder} have {widths[0]} atom features, {widths[1]} bond types and"
            f" {widths[2]} properties, but QM9 has {ATOM_FEATURES}, {BOND_TYPES} and {TARGETS}:"
            f" remove {processed.parent}, which another program made"
        )
    return molecules


def _check_molecules(molecules: Molecules) -> None:
    """Raises ValueError unless all tensors fit together, so that no batch meets a wrong index."""
    atoms, bonds = len(molecules.atoms), molecules.bonds.shape[1]
    number = len(molecules.properties)
    for name, tensor, length in (
        ("positions", molecules.positions, atoms),
        ("bond_types", molecules.bond_types, bonds),
        ("first_atom", molecules.first_atom, number + 1),
        ("first_bond", molecules.first_bond, number + 1),
    ):
        if len(tensor) != length:
            raise ValueError(f"{name} has {len(tensor)} rows, expected {length}")
    for name, first, last in (
        ("first_atom", molecules.first_atom, atoms),
        ("first_bond", molecules.first_bond, bonds),
    ):
        if first[0] != 0 or first[-1] != last or (first.diff() < 0).any():
            raise ValueError(f"{name} does not ascend from 0 to {last}")
    molecule_of_bond = torch.repeat_interleave(molecules.first_bond.diff())
    atoms_there = molecules.first_atom.diff()[molecule_of_bond]
    if ((molecules.bonds < 0) | (molecules.bonds >= atoms_there)).any():
        raise ValueError("a bond joins atoms that its molecule does not have")


def complete_graphs(molecules: Molecules, chosen: Tensor) -> Batch:
    """Makes the complete graphs of some molecules, without self-loops.

    Args:
        chosen: [B] (int64).

    Returns:
        x [N, 11], edge_index [2, E], edge_attr [E, 5] (one-hot type of the bond, zeros where there
        is none, and distance in ångström), batch [N], ptr [B + 1]. Edges are sorted by their second
        atom, then by their first.
    """
    atom_rows, molecule_of_atom, first_atom = _rows(molecules.first_atom, chosen)
    bond_rows, molecule_of_bond, _ = _rows(molecules.first_bond, chosen)
    atoms = first_atom.diff()
    edges = atoms * (atoms - 1)
    first_edge = _starts(edges)
    molecule_of_edge = torch.repeat_interleave(edges)
    # An edge's position in its molecule is target * (atoms - 1) + source, less 1 where the source
    # comes after the target, which is left out.
    position = torch.arange(len(molecule_of_edge)) - first_edge[molecule_of_edge]
    others = (atoms - 1)[molecule_of_edge]
    target = position.div(others, rounding_mode="floor")
    source = position - target * others
    source = source + (source >= target)
    edge_index = torch.stack([source, target]) + first_atom[molecule_of_edge]

    bond_source, bond_target = molecules.bonds[:, bond_rows]
    bond_edge = first_edge[molecule_of_bond] + bond_target * (atoms - 1)[molecule_of_bond]
    bond_edge += bond_source - (bond_source > bond_target).long()
    positions = molecules.positions[atom_rows]
    edge_attr = positions.new_zeros(len(position), BOND_TYPES + 1)
    edge_attr[bond_edge, :BOND_TYPES] = molecules.bond_types[bond_rows]
    edge_attr[:, BOND_TYPES] = (positions[edge_index[0]] - positions[edge_index[1]]).norm(dim=1)
    return Batch(
        x=molecules.atoms[atom_rows],
        edge_index=edge_index,
        edge_attr=edge_attr,
        batch=molecule_of_atom,
        ptr=first_atom,
    )


def _rows(first: Tensor, chosen: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Selects the rows (atoms or bonds) of the chosen molecules.

    Args:
        first: [M + 1], the index of each molecule's first row.

    Returns:
        The N selected rows, each row's position in `chosen` [N], and the index of the first
        selected row of each chosen molecule [B + 1].
    """
    counts = first[chosen + 1] - first[chosen]
    owner = torch.repeat_interleave(counts)
    starts = _starts(counts)
    return torch.arange(len(owner)) + (first[chosen] - starts[:-1])[owner], owner, starts


def _starts(counts: Tensor) -> Tensor:
    return torch.cat([counts.new_zeros(1), counts.cumsum(0)])
