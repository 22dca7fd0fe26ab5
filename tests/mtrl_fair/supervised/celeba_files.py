"""A small CelebA in exactly the official layout, with images of uneven sizes."""

import numpy as np
from PIL import Image

from mtrl_fair.supervised.benchmarks.celeba import ATTRIBUTES

SIZES = [(178, 218), (409, 687), (64, 64), (30, 50), (178, 218), (100, 20)]
PARTS = [0, 2, 1, 0, 0, 1, 2, 0, 0, 1, 0, 2]
NAMES = [f"{number + 1:06d}.jpg" for number in range(len(PARTS))]


def make_labels():
    return np.random.default_rng(0).choice([-1, 1], (len(PARTS), len(ATTRIBUTES)))


def write_celeba(folder):
    generator = np.random.default_rng(1)
    (folder / "img_align_celeba").mkdir()
    for index, name in enumerate(NAMES):
        width, height = SIZES[index % len(SIZES)]
        coarse = Image.fromarray(generator.integers(0, 256, (4, 4, 3), dtype=np.uint8))
        coarse.resize((width, height)).save(folder / "img_align_celeba" / name)
    rows = [
        # Official rows align numbers with a second blank before those without a sign.
        f"{name} " + " ".join(f"{label:2d}" for label in labels)
        for name, labels in zip(NAMES, make_labels(), strict=True)
    ]
    header = f"{len(NAMES)}\n{' '.join(ATTRIBUTES)} \n"
    (folder / "list_attr_celeba.txt").write_text(header + "\n".join(rows) + "\n")
    (folder / "list_eval_partition.txt").write_text(
        "".join(f"{name} {part}\n" for name, part in zip(NAMES, PARTS, strict=True))
    )
    return folder
