"""A small QM9 as torch_geometric downloads it without rdkit."""

import torch

SINGLE_ATOM = 5


def make_molecules(number=40):
    """As in torch_geometric's qm9_v3.pt: bonds in both directions, sorted; one single atom."""
    generator = torch.Generator().manual_seed(0)
    molecules = []
    for index in range(number):
        atoms = 1 if index == SINGLE_ATOM else 2 + index % 8
        bonds = {}
        for atom in range(1, atoms):
            other = int(torch.randint(atom, (1,), generator=generator))
            kind = int(torch.randint(4, (1,), generator=generator))
            bonds[atom, other] = bonds[other, atom] = kind
        pairs = sorted(bonds)
        edge_type = torch.tensor([bonds[pair] for pair in pairs], dtype=torch.long)
        molecules.append(
            {
                "x": torch.randn(atoms, 11, generator=generator),
                "z": torch.full((atoms,), 6),
                "pos": torch.randn(atoms, 3, generator=generator),
                "edge_index": torch.tensor(pairs, dtype=torch.long).reshape(-1, 2).T.contiguous(),
                "edge_attr": torch.nn.functional.one_hot(edge_type, 4).float(),
                "y": 10 * torch.randn(1, 19, generator=generator) + torch.arange(19.0),
                "smiles": "C",
                "name": f"gdb_{index + 1}",
                "idx": index,
            }
        )
    return molecules


def write_raw(folder, molecules):
    (folder / "raw").mkdir()
    torch.save(molecules, folder / "raw" / "qm9_v3.pt")
    return folder
