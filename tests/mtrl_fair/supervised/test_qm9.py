import math
import pickle
import shutil
import socket
import sys
from itertools import chain

import numpy as np
import pytest
import torch
from torch_geometric.data import Batch

from mtrl_fair import make_combiner
from mtrl_fair.errors import DataError
from mtrl_fair.supervised.benchmark import metric_names
from mtrl_fair.supervised.benchmarks.qm9 import PROPERTIES, QM9
from mtrl_fair.supervised.data import Batches
from tests.mtrl_fair.supervised.qm9_files import SINGLE_ATOM, make_molecules, write_raw

HELD_OUT = 8


class SmallQM9(QM9):
    held_out = HELD_OUT


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("a connection was opened")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket, "create_connection", refuse)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_raw(tmp_path_factory.mktemp("qm9"), make_molecules())


@pytest.fixture(scope="module")
def benchmark(folder):
    return SmallQM9(folder)


@pytest.fixture(scope="module")
def splits(benchmark):
    return benchmark.splits()


def whole(data):
    return data.batch(range(len(data)), None)


def train_properties(splits):
    """[N, 11] of the training split, in published units."""
    columns = [0, 1, 2, 3, 5, 6, 12, 13, 14, 15, 11]
    milli = torch.tensor([1, 1, 1000, 1000, 1, 1000, 1000, 1000, 1000, 1000, 1])
    molecules = make_molecules()
    return torch.cat([molecules[i]["y"] for i in splits.train.chosen])[:, columns].double() * milli


def test_the_split_is_fixed_disjoint_and_of_every_molecule(folder, splits):
    chosen = [part.chosen.tolist() for part in splits]
    assert [len(part) for part in splits] == [24, 8, 8]
    assert sorted(chain(*chosen)) == list(range(40))
    again = SmallQM9(folder).splits()
    assert [part.chosen.tolist() for part in again] == chosen
    # Never to change: results on other molecules do not compare.
    assert splits.test.chosen.tolist() == [11, 27, 4, 24, 23, 2, 3, 34]
    assert splits.validation.chosen.tolist() == [18, 1, 10, 22, 20, 26, 28, 30]


def test_complete_graphs_equal_a_double_loop(splits):
    molecules = make_molecules()
    for data in splits:
        for position, index in enumerate(data.chosen.tolist()):
            graph, _ = data.batch([position], None)
            molecule = molecules[index]
            bonds = dict(
                zip(
                    map(tuple, molecule["edge_index"].T.tolist()),
                    molecule["edge_attr"],
                    strict=True,
                )
            )
            edges, features = [], []
            for target, at in enumerate(molecule["pos"]):
                for source, there in enumerate(molecule["pos"]):
                    if source != target:
                        kind = bonds.get((source, target), torch.zeros(4))
                        edges.append([source, target])
                        features.append([*kind.tolist(), math.dist(at, there)])
            assert graph.edge_index.T.tolist() == edges
            torch.testing.assert_close(graph.edge_attr, torch.tensor(features).reshape(-1, 5))
            assert torch.equal(graph.x, molecule["x"])


def test_a_batch_is_its_molecules_one_after_the_other(splits):
    data = splits.train
    indices = [7, 0, 3, 3, 11]
    graphs, targets = data.batch(indices, None)
    parts = [data.batch([index], None) for index in indices]
    assert torch.equal(targets, torch.cat([target for _, target in parts]))
    assert isinstance(graphs, Batch)
    assert graphs.num_graphs == len(indices)
    assert torch.equal(graphs.x, torch.cat([graph.x for graph, _ in parts]))
    assert torch.equal(graphs.edge_attr, torch.cat([graph.edge_attr for graph, _ in parts]))
    atoms = torch.tensor([len(graph.x) for graph, _ in parts])
    assert torch.equal(graphs.ptr.diff(), atoms)
    assert torch.equal(graphs.batch, torch.repeat_interleave(atoms))
    shifted = [
        graph.edge_index + first
        for (graph, _), first in zip(parts, graphs.ptr.tolist(), strict=False)
    ]
    assert torch.equal(graphs.edge_index, torch.cat(shifted, 1))


def test_targets_are_standardised_over_the_training_split(benchmark, splits):
    _, targets = whole(splits.train)
    assert targets.dtype == torch.float32
    torch.testing.assert_close(targets.mean(0), torch.zeros(11), rtol=0, atol=1e-6)
    torch.testing.assert_close(targets.std(0, correction=0), torch.ones(11))
    properties = train_properties(splits)
    std, mean = torch.std_mean(properties, 0, correction=0)
    torch.testing.assert_close(targets.double() * std + mean, properties, rtol=1e-6, atol=1e-3)


def test_errors_are_in_published_units(benchmark, splits):
    """A perfect predictor has error 0, one that is off by a standard deviation has that."""
    stds = train_properties(splits).std(0, correction=0).tolist()
    for _, targets in map(whole, splits):
        for task, std in enumerate(stds):
            perfect, off = benchmark.meter(task), benchmark.meter(task)
            perfect.update(targets[:, [task]], targets)
            quarter = len(targets) // 4  # 3 / 4 are off by 1 / 3, 1 / 4 by 3: 1 in the mean
            off.update(targets[:quarter, [task]] + 3, targets[:quarter])
            off.update(targets[quarter:, [task]] - 1 / 3, targets[quarter:])
            assert perfect.compute() == (0,)
            assert off.compute() == (pytest.approx(std, rel=1e-6),)
    assert math.isnan(benchmark.meter(0).compute()[0])


def test_tasks_units_and_published_errors(benchmark):
    names = [name for task in benchmark.tasks for name in metric_names(task)]
    assert names == list(benchmark.published_baseline)
    assert names[0] == "mu/MAE"
    units = {task.name: task.metrics[0].unit for task in benchmark.tasks}
    energies = {"eps_HOMO", "eps_LUMO", "ZPVE", "U0", "U", "H", "G"}
    assert {name for name, unit in units.items() if unit == "meV"} == energies
    positions = [index for index, name in enumerate(units) if name in energies]
    assert positions == [2, 3, 5, 6, 7, 8, 9]
    assert [part.column for part in PROPERTIES] == [0, 1, 2, 3, 5, 6, 12, 13, 14, 15, 11]
    assert benchmark.score(benchmark.published_baseline) == 0
    worse = {name: 1.1 * value for name, value in benchmark.published_baseline.items()}
    assert benchmark.score(worse) == pytest.approx(-10)


def test_the_network_is_the_published_one(benchmark, splits):
    torch.manual_seed(0)
    graphs, _ = whole(splits.train)
    model = benchmark.model([2, 9])
    trunk = model.trunk
    gru = torch.nn.GRU(64, 64)
    for name, value in trunk.update.named_parameters():
        setattr(gru, f"{name}_l0", value)
    state = trunk.embedding(graphs.x).relu()
    memory = state.unsqueeze(0)
    for _ in range(3):
        message = trunk.message(state, graphs.edge_index, graphs.edge_attr).relu()
        state, memory = gru(message.unsqueeze(0), memory)
        state = state.squeeze(0)
    assert trunk.readout.processing_steps == 3
    features = trunk.output(trunk.readout(state, graphs.batch)).relu()
    torch.testing.assert_close(model(graphs), [head(features) for head in model.heads])
    assert [tuple(head.weight.shape) for head in model.heads] == [(1, 64)] * 2
    sizes = {
        name: sum(p.numel() for p in part.parameters()) for name, part in trunk._modules.items()
    }
    assert trunk.message.aggr == "mean"
    assert sizes["message"] == 5 * 128 + 128 + 128 * 4096 + 4096 + 64 * 64 + 64


def test_the_order_of_atoms_does_not_matter(tmp_path, benchmark, splits):
    torch.manual_seed(0)
    molecules = make_molecules()
    for molecule in molecules:
        order = torch.randperm(len(molecule["x"]))
        molecule["x"], molecule["pos"] = molecule["x"][order], molecule["pos"][order]
        molecule["edge_index"] = order.argsort()[molecule["edge_index"]]
    other = SmallQM9(write_raw(tmp_path, molecules)).splits()
    model = benchmark.model(range(11)).eval()
    graphs, permuted = whole(splits.train)[0], whole(other.train)[0]
    assert not torch.equal(graphs.x, permuted.x)
    torch.testing.assert_close(model(graphs), model(permuted), rtol=1e-4, atol=1e-5)


def test_a_single_atom_gets_the_same_prediction_alone_and_among_others(benchmark, splits):
    torch.manual_seed(0)
    model = benchmark.model([0])
    position = splits.train.chosen.tolist().index(SINGLE_ATOM)
    alone, _ = splits.train.batch([position], None)
    assert alone.edge_index.shape == (2, 0)
    (among,) = model(whole(splits.train)[0])
    torch.testing.assert_close(model(alone)[0], among[[position]])


def test_the_loss_is_the_squared_error_of_the_task(benchmark):
    targets = torch.zeros(2, 11)
    targets[:, 4] = torch.tensor([1.0, -1.0])
    assert benchmark.loss(4, torch.tensor([[3.0], [0.0]]), targets).item() == 2.5


def test_two_steps_and_an_evaluation(benchmark, splits):
    torch.manual_seed(0)
    model = benchmark.model(range(11))
    combiner = make_combiner("fairgrad", num_tasks=11)
    optimizer = torch.optim.Adam(model.parameters(), benchmark.recipe.learning_rate)
    before = [parameter.clone() for parameter in model.parameters()]
    for inputs, targets in Batches(splits.train, 12, seed=0).epoch():
        losses = torch.stack(
            [benchmark.loss(task, output, targets) for task, output in enumerate(model(inputs))]
        )
        optimizer.zero_grad()
        combiner.backward(losses, model.shared_parameters(), model.task_parameters())
        optimizer.step()
    for parameter, old in zip(model.parameters(), before, strict=True):
        assert parameter.isfinite().all()
        assert not torch.equal(parameter, old)
    meters = [benchmark.meter(task) for task in range(11)]
    with torch.no_grad():
        for inputs, targets in Batches(splits.validation, 3, seed=None).epoch():
            for meter, output in zip(meters, model(inputs), strict=True):
                meter.update(output, targets)
    names = [name for task in benchmark.tasks for name in metric_names(task)]
    values = dict(zip(names, [meter.compute()[0] for meter in meters], strict=True))
    assert all(value > 0 for value in values.values())
    assert math.isfinite(benchmark.score(values))


def test_the_learning_rate_falls_on_a_plateau_of_delta_m(benchmark):
    optimizer = torch.optim.Adam([torch.zeros(1, requires_grad=True)], 1e-3)
    scheduler = benchmark.scheduler(optimizer)
    for delta_m in (5.0, 4.0, 4.0, 4.0, 4.0, 4.0, 4.0):
        scheduler.step(delta_m)
    assert optimizer.param_groups[0]["lr"] == 1e-3
    scheduler.step(4.0)  # the sixth without improvement
    assert optimizer.param_groups[0]["lr"] == pytest.approx(7e-4)
    for _ in range(200):
        scheduler.step(4.0)
    assert optimizer.param_groups[0]["lr"] == 1e-5


@pytest.mark.process
def test_data_travel_to_other_processes(splits):
    here, there = (Batches(splits.train, 5, seed=0, workers=workers) for workers in (0, 1))
    copy = Batches(pickle.loads(pickle.dumps(splits.train)), 5, seed=0)  # as spawn does
    for expected, *others in zip(here.epoch(), there.epoch(), copy.epoch(), strict=True):
        for graphs, targets in others:
            assert torch.equal(targets, expected[1])
            assert graphs.to_dict().keys() == expected[0].to_dict().keys()
            for key, value in expected[0].to_dict().items():
                assert torch.equal(torch.as_tensor(graphs[key]), torch.as_tensor(value))


def test_the_processed_file_is_enough(tmp_path, folder, splits):
    shutil.copytree(folder / "processed", tmp_path / "processed")
    found = SmallQM9(tmp_path).splits()
    assert torch.equal(whole(found.test)[1], whole(splits.test)[1])
    assert [path.name for path in tmp_path.iterdir()] == ["processed"]


def test_missing_files_are_named_with_the_command_that_downloads_them(tmp_path):
    folder = tmp_path / "nowhere"
    with pytest.raises(DataError) as caught:
        SmallQM9(folder)
    message = str(caught.value)
    assert f"neither {folder}/processed/data_v3.pt nor {folder}/raw/qm9_v3.pt;" in message
    command = f'python -c "from torch_geometric.datasets import QM9; QM9({str(folder)!r})"'
    assert command in message
    assert not folder.exists()


def test_with_rdkit_the_original_files_are_looked_for(tmp_path, monkeypatch):
    write_raw(tmp_path, make_molecules())
    monkeypatch.setattr(
        "mtrl_fair.supervised.benchmarks.molecules.graphs.find_spec", lambda name: name == "rdkit"
    )
    with pytest.raises(
        DataError, match="raw/gdb9.sdf with .*gdb9.sdf.csv with .*characterized.txt"
    ):
        SmallQM9(tmp_path)


def test_no_folder():
    with pytest.raises(
        DataError, match="qm9 needs its files: --data FOLDER with FOLDER/processed/data"
    ):
        QM9()


@pytest.mark.parametrize("missing", ["torch_geometric", "torch_geometric.data"])
def test_without_torch_geometric(tmp_path, monkeypatch, missing):
    monkeypatch.delitem(sys.modules, "mtrl_fair.supervised.benchmarks.molecules.graphs")
    for name in (missing, "torch_geometric.data"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(DataError, match="qm9 needs torch_geometric: install the extra"):
        SmallQM9(tmp_path)


def test_too_few_molecules(folder, monkeypatch):
    with pytest.raises(DataError, match="has 40 molecules, too few for 10000 to test, 10000 to"):
        QM9(folder)
    monkeypatch.setattr(SmallQM9, "held_out", 20)
    with pytest.raises(DataError, match="too few for 20 to test"):
        SmallQM9(folder)


@pytest.mark.parametrize("file", ["processed/data_v3.pt", "raw/qm9_v3.pt"])
@pytest.mark.parametrize("length", [0, 1000])
def test_a_file_that_is_cut_off(tmp_path, folder, file, length):
    path = tmp_path / file
    path.parent.mkdir()
    path.write_bytes((folder / file).read_bytes()[:length])
    with pytest.raises(DataError, match=f"cannot read .*{file}.*: remove it, and download"):
        SmallQM9(tmp_path)


def test_molecules_that_another_program_changed(tmp_path):
    molecules = make_molecules()
    for molecule in molecules:
        molecule["edge_attr"] = torch.cat([molecule["edge_attr"], molecule["edge_attr"]], 1)
    with pytest.raises(DataError, match="have 11 atom features, 8 bond types and 19 properties"):
        SmallQM9(write_raw(tmp_path, molecules))


@pytest.mark.parametrize("value", [2.0, np.nan])
def test_a_property_that_cannot_be_standardised(tmp_path, value):
    molecules = make_molecules()
    for molecule in molecules:
        molecule["y"][0, 6] = value
    with pytest.raises(
        DataError, match="ZPVE has a standard deviation of (0.0|nan) over the train"
    ):
        SmallQM9(write_raw(tmp_path, molecules))
