"""Goal caches, checkpoints and the files of supervised benchmarks, and what loads them."""

from __future__ import annotations

import gzip
import io
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from random import Random

import metaworld
import torch

from envs import goals
from mtrl_fair.supervised.benchmarks.celeba import CelebA
from mtrl_fair.supervised.benchmarks.dense.mtan_data import MTANFolder
from mtrl_fair.supervised.benchmarks.molecules.graphs import complete_graphs, read_molecules
from mtrl_fair.supervised.benchmarks.multimnist import MultiMNIST
from mtrl_fair.supervised.config import SupervisedConfig
from mtrl_fair.supervised.training import train
from tests.mtrl_fair.supervised.celeba_files import write_celeba
from tests.mtrl_fair.supervised.mnist_files import write_mnist
from tests.mtrl_fair.supervised.mtan_files import write_release
from tests.mtrl_fair.supervised.qm9_files import make_molecules, write_raw
from tests.scripts.commands import Result
from tests.torture.file_mutations import (
    mutate_array_file,
    mutate_bytes,
    mutate_json,
    mutate_state,
)
from tests.torture.hostile_files import HostileFile, checked

REACH = "reach-v3"


def goal_cache(folder: Path) -> Iterator[HostileFile]:
    """Yields a file of the goal cache: damaged as it is, and with a checksum that fits."""
    drawn = metaworld.MT1(REACH, seed=0).train_tasks

    def load() -> Result:
        """What is drawn again counts as refused."""
        draws: list[int] = []

        def draw() -> list[metaworld.Task]:
            draws.append(1)
            return drawn

        result = checked(lambda: goals.load_or_draw(REACH, [REACH], 0, draw))
        return Result(2, "", "error: drawn again") if draws and result.code == 0 else result

    def sealed(content: bytes, random: Random) -> bytes:
        document = json.loads(content)
        try:
            changed = json.loads(mutate_json(json.dumps(document["content"]).encode(), random))
            return json.dumps({"sha256": goals._checksum(changed), "content": changed}).encode()
        except (ValueError, RecursionError):
            return mutate_bytes(content, random)

    load()
    (path,) = goals.cache_folder().iterdir()
    yield HostileFile("goal cache", path, mutate_json, load, 500)
    yield HostileFile("goal cache, sealed", path, sealed, load, 500)


def supervised_checkpoint(folder: Path) -> Iterator[HostileFile]:
    """Yields the checkpoint of a supervised training that was stopped, continued and stopped."""
    config = SupervisedConfig("toy", combiner="uw", epochs=2)
    whole, run = folder / "whole", folder / "run"
    calls = iter(range(10))
    assert not train(config, whole, should_stop=lambda: next(calls) > 3)
    shutil.copytree(whole, run)
    path = run / "checkpoints" / "latest.pt"

    def load() -> Result:
        damaged = path.read_bytes()
        shutil.rmtree(run)
        shutil.copytree(whole, run)
        path.write_bytes(damaged)
        return checked(lambda: train(config, run, should_stop=lambda: True))

    yield HostileFile("latest.pt, supervised", path, mutate_bytes, load, 300)
    yield HostileFile("latest.pt, supervised, saved", path, mutate_state, load, 500)


def benchmark_files(folder: Path) -> Iterator[HostileFile]:
    """Yields the files of the benchmarks that read any."""
    yield from _dense_files(folder)
    yield from _digit_files(folder)
    yield from _face_files(folder)
    yield from _molecule_files(folder)


def _dense_files(folder: Path) -> Iterator[HostileFile]:
    write_release(folder / "mtan", (12, 16), 5)
    names = {name: name for name in ("image", "label", "depth", "normal")}

    def dense() -> MTANFolder:
        return MTANFolder(folder / "mtan", "train", names, (12, 16), 5)

    def load() -> Result:
        return checked(lambda: dense().sample(0, None))

    for name in ("label", "depth"):
        path = folder / "mtan" / "train" / name / "0.npy"
        yield HostileFile(f"{name}/0.npy", path, mutate_array_file, load, 400)


def _digit_files(folder: Path) -> Iterator[HostileFile]:
    mnist = write_mnist(folder / "mnist", compressed=("t10k",))

    def repacked(content: bytes, random: Random) -> bytes:
        if random.randrange(2) == 0:
            return mutate_bytes(content, random)
        changed = mutate_array_file(gzip.decompress(content), random)
        return gzip.compress(changed, compresslevel=1)

    for part, mutate in (("train", mutate_array_file), ("t10k", repacked)):
        suffix = ".gz" if part == "t10k" else ""
        yield HostileFile(
            f"{part}-images-idx3-ubyte{suffix}",
            mnist / f"{part}-images-idx3-ubyte{suffix}",
            mutate,
            lambda: checked(lambda: MultiMNIST(mnist)),
            300,
        )


def _face_files(folder: Path) -> Iterator[HostileFile]:
    celeba = folder / "celeba"
    celeba.mkdir()
    write_celeba(celeba)

    def load() -> Result:
        return checked(lambda: CelebA(celeba).splits().train.batch([0], None))

    for name in ("list_attr_celeba.txt", "list_eval_partition.txt"):
        yield HostileFile(name, celeba / name, mutate_bytes, load, 300)
    yield HostileFile(
        "000001.jpg", celeba / "img_align_celeba" / "000001.jpg", mutate_array_file, load, 400
    )


def _molecule_files(folder: Path) -> Iterator[HostileFile]:
    qm9 = folder / "qm9"
    qm9.mkdir()
    write_raw(qm9, make_molecules())

    def load() -> Result:
        def batch() -> object:
            molecules = read_molecules(qm9)
            return complete_graphs(molecules, torch.arange(len(molecules.properties)))

        return checked(batch)

    assert load().code == 0  # torch_geometric writes the processed file
    processed = qm9 / "processed" / "data_v3.pt"
    yield HostileFile("data_v3.pt", processed, mutate_bytes, load, 200)
    yield HostileFile("data_v3.pt, saved", processed, mutate_processed, load, 300)


def mutate_processed(content: bytes, random: Random) -> bytes:
    """Changes a tensor of torch_geometric's file, or one of its values, and saves it."""
    data, slices, kind = torch.load(io.BytesIO(content), weights_only=False)
    part = random.choice((data, slices))
    key = random.choice(sorted(part))
    found = part[key]
    if isinstance(found, torch.Tensor):
        flat = found.flatten().clone()
        flat[random.randrange(len(flat))] = random.choice((-1, 2**31, 10**6))
        part[key] = random.choice((flat.reshape(found.shape), found[:-1], found[None], None))
    else:
        part[key] = random.choice((None, [], "x"))
    written = io.BytesIO()
    torch.save((data, slices, kind), written)
    return written.getvalue()
