"""A goal cache that cannot be read or written is never in the way of a run."""

import hashlib
import json
import os
import pickle
import resource
from pathlib import Path

import numpy as np
import pytest

from envs import TaskSet
from tests.envs.goals.cache_files import REACH, only_file


def forge(change):
    """A file whose content is changed and whose checksum is right."""

    def forge(path: Path) -> None:
        content = json.loads(path.read_text())["content"]
        change(content)
        digest = hashlib.sha256(json.dumps(content).encode()).hexdigest()
        path.write_text(json.dumps({"sha256": digest, "content": content}))

    return forge


def flip_digit(path: Path) -> None:
    data = bytearray(path.read_bytes())
    at = data.index(b"0.", len(data) // 2) + 2
    data[at] = ord("0") + (data[at] - ord("0") + 1) % 10
    path.write_bytes(data)


def become_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def become_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def replace_key(path: Path) -> None:
    key = path.name.removesuffix(".json").replace("seed0", "seed1")
    forge(lambda content: content.update(key=key))(path)


CORRUPTIONS = {
    "truncated": lambda path: os.truncate(path, path.stat().st_size // 2),
    "empty": lambda path: os.truncate(path, 0),
    "zeros": lambda path: path.write_bytes(bytes(path.stat().st_size)),
    "flipped digit": flip_digit,
    "garbage": lambda path: path.write_bytes(np.random.default_rng(0).bytes(5000)),
    "pickle": lambda path: path.write_bytes(pickle.dumps({"content": 1})),
    "other JSON": lambda path: path.write_text("[1, 2]"),
    "no content": lambda path: path.write_text("{}"),
    "nested": lambda path: path.write_text("[" * 200_000),
    "folder": become_folder,
    "pipe": become_pipe,
    "another key": replace_key,
    "other names": forge(lambda content: content["goals"].update({"push-v3": []})),
    "49 goals": forge(lambda content: content["goals"][REACH].pop()),
    "unequal lengths": forge(lambda content: content["goals"][REACH][7].pop()),
    "not finite": forge(lambda content: content["goals"][REACH][7].__setitem__(2, float("nan"))),
    "strings": forge(lambda content: content["goals"].update({REACH: [["0.5"] * 6] * 50})),
    "integers": forge(lambda content: content["goals"].update({REACH: [[1] * 6] * 50})),
    "a number": forge(lambda content: content["goals"].update({REACH: 3})),
}


@pytest.mark.parametrize("corrupt", CORRUPTIONS.values(), ids=CORRUPTIONS)
def test_a_corrupt_file_is_drawn_again_and_replaced(folder, load, package, corrupt):
    load()
    path = only_file(folder)
    valid = path.read_bytes()
    corrupt(path)
    with pytest.warns(RuntimeWarning) as caught:
        assert load() == package.train_tasks
    assert load.draws == 2
    assert len(caught) == 1
    assert str(path) in str(caught[0].message)
    assert "drawn again" in str(caught[0].message)
    assert load() == package.train_tasks
    assert load.draws == 2
    assert only_file(folder) == path
    assert path.read_bytes() == valid


def test_the_file_of_another_seed_is_not_taken(folder, load):
    """Copied over this one's: whole and valid, and not what is asked for."""
    other = TaskSet.make(REACH, 1).goals[0]
    source = only_file(folder)
    copy = source.with_name(source.name.replace("seed1", "seed0"))
    copy.write_bytes(source.read_bytes())
    with pytest.warns(RuntimeWarning, match=f"{copy.name} .*holds the goals of reach-v3-seed1"):
        assert load() != list(other)
    assert load.draws == 1


def test_a_file_that_cannot_be_read_is_replaced(folder, load, package, monkeypatch):
    load()
    with monkeypatch.context() as patch:  # permissions do not stop a super-user, who may run this
        patch.setattr(Path, "read_bytes", lambda path: os.open("/nowhere/at/all", os.O_RDONLY))
        with pytest.warns(RuntimeWarning, match="No such file"):
            assert load() == package.train_tasks
    load()
    assert load.draws == 2


def test_a_folder_that_is_not_empty_is_left_alone(folder, load, package):
    load()
    path = only_file(folder)
    become_folder(path)
    (path / "precious").touch()
    with pytest.warns(RuntimeWarning) as caught:
        assert load() == package.train_tasks
    assert [warning.message.args[0].split(",")[0] for warning in caught] == [
        f"the goal cache {path} cannot be used",
        f"goals are not cached in {folder}",
    ]
    assert (path / "precious").exists()
    assert only_file(folder) == path


@pytest.mark.parametrize("obstacle", ["cache", "cache/goals"])
def test_a_folder_that_cannot_be_made_is_done_without(tmp_path, folder, load, package, obstacle):
    """A file stands in its place: that stops the super-user too."""
    (tmp_path / obstacle).parent.mkdir(exist_ok=True)
    (tmp_path / obstacle).write_text("")
    with pytest.warns(RuntimeWarning) as caught:
        assert load() == load(1) == package.train_tasks
    assert len(caught) == 1  # once for the folder, not for each file
    assert f"not cached in {folder}" in str(caught[0].message)
    assert "MTRL_FAIR_CACHE" in str(caught[0].message)


def test_no_temporary_file_stays_when_the_disk_refuses(folder, load, package):
    """A limit of the file size stands for a full disk; the write fails in its middle."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, before[1]))
    try:
        with pytest.warns(RuntimeWarning, match=f"not cached in {folder}.*File too large"):
            assert load() == package.train_tasks
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert list(folder.iterdir()) == []
    load()
    load()
    assert load.draws == 2


def test_an_interrupted_write_leaves_nothing(folder, load, monkeypatch):
    def interrupted(descriptor):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupted)
    with pytest.raises(KeyboardInterrupt):
        load()
    assert list(folder.iterdir()) == []
