"""Small data sets in exactly the layout of the MTAN release."""

import numpy as np


def write_release(root, size, num_classes, label_folder="label", normals=True, train=3, val=2):
    """Writes files and returns {(split, folder): [arrays]}. The top left is undefined, and no label
    is the last class."""
    generator = np.random.default_rng(0)
    written = {}
    for split, number in (("train", train), ("val", val)):
        for index in range(number):
            arrays = sample_arrays(generator, size, num_classes, label_folder, normals)
            for folder, array in arrays.items():
                path = root / split / folder / f"{index}.npy"
                path.parent.mkdir(parents=True, exist_ok=True)
                np.save(path, array)
                written.setdefault((split, folder), []).append(array)
    return written


def sample_arrays(generator, size, num_classes, label_folder, normals):
    label = generator.integers(0, num_classes - 1, size).astype(np.float32)
    depth = generator.uniform(0.1, 0.5, (*size, 1)).astype(np.float32)
    label[:8, :8] = -1
    depth[:10, :6] = 0
    arrays = {
        "image": generator.random((*size, 3), np.float32),
        label_folder: label,
        "depth": depth,
    }
    if normals:
        normal = generator.normal(size=(*size, 3))
        normal /= np.linalg.norm(normal, axis=-1, keepdims=True)
        normal[:4, :16] = 0
        arrays["normal"] = normal.astype(np.float32)
    return arrays
