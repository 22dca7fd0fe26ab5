"""QM9: 11 properties of small organic molecules, each a regression task."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import MappingProxyType
from typing import ClassVar, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.optim.lr_scheduler import ReduceLROnPlateau

from mtrl_fair.errors import DataError
from mtrl_fair.supervised.benchmark import Benchmark, Metric, Recipe, Splits, Task
from mtrl_fair.supervised.model import MultiTaskModel


class Property(NamedTuple):
    """A property of molecules, in torch_geometric's data and in the literature."""

    name: str
    column: int
    """The column of torch_geometric's targets."""
    unit: str
    """The unit of the published errors."""
    factor: float
    """Converts torch_geometric's unit to the published one."""
    single_task_error: float
    """The published MAE of a network that learns nothing else, in the published unit."""


PROPERTIES = (
    Property("mu", 0, "D", 1, 0.0671),
    Property("alpha", 1, "bohr^3", 1, 0.1814),
    Property("eps_HOMO", 2, "meV", 1000, 60.576),
    Property("eps_LUMO", 3, "meV", 1000, 53.915),
    Property("R2", 5, "bohr^2", 1, 0.5027),
    Property("ZPVE", 6, "meV", 1000, 4.539),
    Property("U0", 12, "meV", 1000, 58.838),
    Property("U", 13, "meV", 1000, 64.244),
    Property("H", 14, "meV", 1000, 63.852),
    Property("G", 15, "meV", 1000, 66.223),
    Property("c_v", 11, "cal/(mol K)", 1, 0.07212),
)
"""The properties that the paper trains on; U0, U, H and G are those of atomisation."""


class AbsoluteErrorMeter:
    """Computes the mean absolute error of one property in its unit; NaN without any sample.

    Args:
        column: the column of the targets that holds this property.
        deviation: the standard deviation of the property, in its unit; standardised targets are
            divided by it.
    """

    def __init__(self, column: int, deviation: float):
        self.column = column
        self.deviation = deviation
        self._samples = 0
        self._total: Tensor | int = 0

    def update(self, output: Tensor, targets: Tensor) -> None:
        """Adds predictions [B, 1] and the targets of all tasks [B, K], both standardised."""
        errors = output.squeeze(1).double() - targets[:, self.column].double()
        self._samples += len(errors)
        self._total = self._total + errors.abs().sum()

    def compute(self) -> tuple[float]:
        """Returns (MAE,), in the property's unit."""
        if not self._samples:
            return (float("nan"),)
        return (float(self._total) / self._samples * self.deviation,)


class QM9(Benchmark):
    """Asks for 11 properties of 130,831 molecules of up to 29 atoms (Ramakrishnan et al. 2014).

    A fixed permutation of the molecules gives the test split, the validation split and, of the
    rest, the training split, over which the targets are standardised.

    Args:
        folder: the root of `torch_geometric.datasets.QM9`. Nothing is ever downloaded.
        pooling: as in `Benchmark`.

    Raises:
        DataError: torch_geometric or a file is missing, or a file is wrong.
    """

    name = "qm9"
    tasks = tuple(
        Task(part.name, (Metric("MAE", higher_is_better=False, unit=part.unit),))
        for part in PROPERTIES
    )
    recipe = Recipe(epochs=300, batch_size=120, learning_rate=1e-3, report="best", loader_workers=8)
    layout = (
        "FOLDER/processed/data_v3.pt, or the files in FOLDER/raw that torch_geometric makes it of;"
        " python -c \"from torch_geometric.datasets import QM9; QM9('FOLDER')\" downloads them"
    )
    published_baseline = MappingProxyType(
        {f"{part.name}/MAE": part.single_task_error for part in PROPERTIES}
    )

    held_out: ClassVar[int] = 10_000
    """Molecules in the test split, and as many in the validation split."""

    def __init__(self, folder: Path | None = None, pooling: str = "batch"):
        super().__init__(folder, pooling)
        held_out = self.held_out
        if folder is None:
            raise DataError(f"qm9 needs its files: --data FOLDER with {self.layout}")
        try:
            from mtrl_fair.supervised.benchmarks.molecules.graphs import read_molecules
        except ModuleNotFoundError as error:
            if error.name is None or error.name.partition(".")[0] != "torch_geometric":
                raise
            raise DataError(
                "qm9 needs torch_geometric: install the extra, pip install '.[supervised]'"
            ) from error
        self._molecules = read_molecules(folder)
        number = len(self._molecules.properties)
        if number <= 2 * held_out:
            raise DataError(
                f"{folder} has {number} molecules, too few for {held_out} to test, {held_out} to"
                " validate and others to train: its QM9 is not complete"
            )
        order = torch.from_numpy(np.random.default_rng(0).permutation(number))
        self._test, self._validation, self._train = order.split(
            [held_out, held_out, number - 2 * held_out]
        )
        factors = torch.tensor([part.factor for part in PROPERTIES])
        columns = [part.column for part in PROPERTIES]
        values = self._molecules.properties[:, columns].double() * factors
        self._deviations, mean = torch.std_mean(values[self._train], 0, correction=0)
        for part, deviation in zip(PROPERTIES, self._deviations.tolist(), strict=True):
            if not deviation > 0:
                raise DataError(
                    f"{part.name} has a standard deviation of {deviation} over the training split"
                    f" of {folder}: it cannot be standardised"
                )
        self._targets = ((values - mean) / self._deviations).float()

    def splits(self) -> Splits:
        """Returns inputs, which are `complete_graphs`, and targets [B, 11], standardised."""
        from mtrl_fair.supervised.benchmarks.molecules.graphs import CompleteGraphs

        train, validation, test = (
            CompleteGraphs(self._molecules, self._targets, chosen)
            for chosen in (self._train, self._validation, self._test)
        )
        return Splits(train, validation, test)

    def model(self, tasks: Sequence[int]) -> MultiTaskModel:
        """Makes a message-passing network, and a linear head for each task."""
        from mtrl_fair.supervised.benchmarks.molecules.network import MoleculeNetwork

        trunk = MoleculeNetwork()
        return MultiTaskModel(trunk, [nn.Linear(trunk.width, 1) for _ in tasks])

    def loss(self, task: int, output: Tensor, targets: Tensor) -> Tensor:
        """Computes the squared error of the standardised property, the mean over the batch."""
        return functional.mse_loss(output.squeeze(1), targets[:, task])

    def meter(self, task: int) -> AbsoluteErrorMeter:
        """Makes a meter of the mean absolute error in the unit of the literature."""
        return AbsoluteErrorMeter(task, float(self._deviations[task]))

    def scheduler(self, optimizer: torch.optim.Optimizer) -> ReduceLROnPlateau:
        """Makes a schedule that steps with the validation Δm%, which is minus `score`."""
        return ReduceLROnPlateau(optimizer, mode="min", factor=0.7, patience=5, min_lr=1e-5)
