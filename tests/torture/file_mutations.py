"""Damage to files: bytes, JSON values, cells of tables, members of zip files."""

from __future__ import annotations

import csv
import io
import json
import tempfile
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import torch

OUTSIDE = Path(tempfile.gettempdir()) / "mtrl-fair-outside"
"""A file that some mutations name, and that no command may make."""
EXTREME_BYTES = (b"\x00", b"\xff", b"\x7f\xff\xff\xff", b"\xff" * 8, b"\x80\x04", b"\xef\xbb\xbf")
NAMES = ("", ".", "..", "../x", "../../x", "a/b", "x\\y", "a\0b", "a\nb", "\ud800", "x" * 5000)
NUMBERS = (0, -1, 1.5, True, 2**31, 2**63, 2**64, -(2**63), 10**400, 1e308, float("nan"))
RAW_TEXTS = (
    "[" * 40 + "]" * 40,
    "[" * 900 + "]" * 900,
    "[" * 100_000 + "]" * 100_000,
    '{"a":' * 900 + "1" + "}" * 900,
    '{"a":' * 100_000 + "1" + "}" * 100_000,
    "9" * 5000,
    "-Infinity",
    "[" + "0," * 100_000 + "0]",
)
"""JSON that `json.dumps` would not write."""
PLACEHOLDER = "@raw@"

Mutation = Callable[[bytes, Random], bytes]


def mutate_bytes(content: bytes, random: Random) -> bytes:
    """Flips bits, cuts off, removes, repeats, inserts and overwrites, once to three times."""
    changed = bytearray(content)
    for _ in range(random.choice((1, 1, 1, 2, 3))):
        at = random.randrange(len(changed) + 1)
        length = random.choice((1, 2, 4, 16, 100))
        kind = random.randrange(7)
        if kind <= 1 and changed:
            for _ in range(random.choice((1, 1, 8))):
                changed[random.randrange(len(changed))] ^= 1 << random.randrange(8)
        elif kind == 2:
            del changed[at:]
        elif kind == 3:
            del changed[at : at + length]
        elif kind == 4:
            changed[at:at] = changed[at : at + length] * random.choice((1, 50))
        elif kind == 5:
            changed[at:at] = random.choice(EXTREME_BYTES)
        else:
            extreme = random.choice(EXTREME_BYTES)
            changed[at : at + len(extreme)] = extreme
    return bytes(changed)


def hostile_value(random: Random, other: Any) -> Any:
    """Returns a value of a wrong type or size, or `other`, which stands elsewhere in the file."""
    kind = random.randrange(6)
    if kind == 0:
        return random.choice(NUMBERS)
    if kind == 1:
        return random.choice((*NAMES, str(OUTSIDE)))
    if kind == 2:
        return PLACEHOLDER
    if kind == 3:
        return random.choice((None, [], {}, [None], [[]], {"../x": 1}, "1", "cuda:99"))
    if kind == 4:
        return other
    return [other]


def mutate_array_file(content: bytes, random: Random) -> bytes:
    """Changes bytes, half of the time within the header that states an array's shape."""
    if random.randrange(2) == 0:
        return mutate_bytes(content, random)
    return mutate_bytes(content[:128], random) + content[128:]


def places_in(value: Any) -> list[tuple[Any, Any]]:
    """Returns every place of a value's nest, as its container and the index or key."""
    places: list[tuple[Any, Any]] = []
    waiting = [value]
    while waiting:
        container = waiting.pop()
        keys = container if isinstance(container, dict) else range(len(container))
        for key in keys:
            places.append((container, key))
            if isinstance(container[key], dict | list):
                waiting.append(container[key])
    return places


def mutate_values(document: Any, random: Random) -> Any:
    """Changes, removes or renames one value of a nest of dicts and lists, in place."""
    places = places_in(document)
    if not places or random.randrange(20) == 0:
        return hostile_value(random, document)
    container, key = random.choice(places)
    other_container, other_key = random.choice(places)
    kind = random.randrange(8)
    if kind == 0:
        del container[key]
    elif kind == 1 and isinstance(container, dict):
        container[random.choice(NAMES)] = container.pop(key)
    else:
        # A copy, because a nest that holds itself is no JSON.
        other = json.loads(json.dumps(other_container[other_key], default=str))
        if kind == 2 and isinstance(container, list):
            container.insert(key, other)
        else:
            container[key] = hostile_value(random, other)
    return document


def mutate_json(content: bytes, random: Random) -> bytes:
    """Changes one value, or, one time in four, bytes."""
    if random.randrange(4) == 0:
        return mutate_bytes(content, random)
    text = json.dumps(mutate_values(json.loads(content), random))
    return text.replace(json.dumps(PLACEHOLDER), random.choice(RAW_TEXTS)).encode()


def mutate_state(content: bytes, random: Random) -> bytes:
    """Changes one value or tensor of a checkpoint's state, and saves it as torch does."""
    state = torch.load(io.BytesIO(content), weights_only=True)
    places = places_in(state)
    tensors = [(place, key) for place, key in places if isinstance(place[key], torch.Tensor)]
    place, key = random.choice(tensors if random.randrange(2) else places)
    found = place[key]
    if isinstance(found, torch.Tensor) and random.randrange(4):
        changes = (
            found.flatten()[:0],
            found.double() * float("nan"),
            found[None],
            found.to(torch.complex64),
            torch.zeros(1).expand(10**12),
        )
        place[key] = random.choice(changes)
    elif random.randrange(6) == 0:
        del place[key]
    else:
        value = hostile_value(random, random.choice(places)[0])
        place[key] = [[[]]] if value == PLACEHOLDER else value
    written = io.BytesIO()
    torch.save(state, written)
    return written.getvalue()


def mutate_lines(content: bytes, random: Random) -> bytes:
    """Changes one line of JSON, or, one time in four, bytes; or repeats or swaps lines."""
    if random.randrange(4) == 0:
        return mutate_bytes(content, random)
    lines = content.splitlines(keepends=True)
    at = random.randrange(len(lines))
    kind = random.randrange(10)
    if kind == 0:
        lines.insert(at, lines[random.randrange(len(lines))])
    elif kind == 1:
        random.shuffle(lines)
    else:
        lines[at] = mutate_json(lines[at].rstrip(), random) + b"\n"
    return b"".join(lines)


def mutate_table(content: bytes, random: Random) -> bytes:
    """Changes one cell or the number of cells, or, one time in four, bytes."""
    if random.randrange(4) == 0:
        return mutate_bytes(content, random)
    rows = list(csv.reader(io.StringIO(content.decode(), newline="")))
    row = random.choice(rows)
    at = random.randrange(len(row))
    kind = random.randrange(6)
    if kind == 0:
        del row[at]
    elif kind == 1:
        row.insert(at, row[at])
    elif kind == 2:
        rows.insert(random.randrange(len(rows)), list(row))
    else:
        texts = ("1e400", "-1", "9" * 400, "9" * 5000, "nan", "0x10", "1_000", "x" * 200_000, "٣")
        names = tuple(name for name in NAMES if name.isascii())
        row[at] = random.choice((*texts, *names, *map(str, NUMBERS)))
    text = io.StringIO(newline="")
    csv.writer(text).writerows(rows)
    return text.getvalue().encode()


def mutate_zip(content: bytes, random: Random) -> bytes:
    """Changes bytes of a zip file, or a member's name, content, compression or number."""
    if random.randrange(2) == 0:
        return mutate_bytes(content, random)
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = [(name, archive.read(name)) for name in archive.namelist()]
    at = random.randrange(len(members))
    name, text = members[at]
    run, _, file = name.partition("/")
    kind = random.randrange(6)
    if kind == 0:
        del members[at]
    elif kind == 1:
        odd = random.choice((*NAMES, str(OUTSIDE), "/x")).replace("\ud800", "é")
        members[at] = (random.choice((f"{odd}/{file}", f"{run}/{odd}", odd)), text)
    elif kind == 2:
        odd = random.choice(("..", ".", "", "../..", str(OUTSIDE), "a\nb", "x" * 300))
        members = [(f"{odd}/{each.partition('/')[2]}", body) for each, body in members]
    elif kind == 3:
        members[at] = (name, text + b" " * random.choice((10**6, 7 * 10**7)))
    else:
        mutate = {"csv": mutate_table, "jsonl": mutate_lines}.get(file.split(".")[-1], mutate_json)
        members[at] = (name, mutate(text, random))
    written = io.BytesIO()
    usual = (zipfile.ZIP_DEFLATED, zipfile.ZIP_STORED)
    methods = usual if random.randrange(8) else (zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)
    with zipfile.ZipFile(written, "w") as archive, warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Duplicate name", UserWarning)
        for each, body in members:
            small = len(body) < 10**7
            method = random.choice(methods) if small else zipfile.ZIP_DEFLATED
            archive.writestr(
                each.split("\0")[0] or "x", body, compress_type=method, compresslevel=1
            )
    return written.getvalue()
