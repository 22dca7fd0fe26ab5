"""A small MNIST in its four files."""

import gzip
import struct

import numpy as np

NUMBERS = {"train": 60, "t10k": 12}


def write_mnist(folder, compressed=()):
    """MNIST's four files, small; each image tells its part and index."""
    folder.mkdir()
    for part, number in NUMBERS.items():
        images = np.zeros((number, 28, 28), np.uint8)
        images[:, 0, 0] = 100 * (part == "train") + np.arange(number)
        images[:, 14:, 14:] = 255
        labels = (np.arange(number) % 10).astype(np.uint8)
        for name, array in (("images-idx3", images), ("labels-idx1", labels)):
            content = bytes((0, 0, 8, array.ndim))
            content += struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()
            path = folder / f"{part}-{name}-ubyte"
            if part in compressed:
                path.with_name(path.name + ".gz").write_bytes(gzip.compress(content))
            else:
                path.write_bytes(content)
    return folder
