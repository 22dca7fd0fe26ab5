"""Files are written as a whole, and read up to their last complete line."""

import contextlib
import json
import os
import resource
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from mtrl_fair.errors import WriteError
from mtrl_fair.runs.checkpoints import save_checkpoint
from mtrl_fair.runs.files import (
    AppendedFile,
    RunError,
    complete_lines,
    flatten,
    parse_object,
    replacing,
    write_json,
    write_text,
)
from tests.full_disk import fill_disk


@pytest.mark.parametrize("size", [10, 1_000_000])
@pytest.mark.parametrize("kind", ["text", "checkpoint"])
def test_a_full_disk_leaves_the_old_file_and_nothing_else(tmp_path, kind, size):
    """Small contents fail when they are flushed; of large ones torch hides the error."""
    path = tmp_path / "file"
    path.write_text("old")
    fill_disk(path)
    write = {
        "text": lambda: write_text(path, "x" * size),
        "checkpoint": lambda: save_checkpoint(path, {"tensor": torch.zeros(size)}),
    }[kind]
    with pytest.raises(WriteError, match=r"file cannot be written \(No space left.*free some spa"):
        write()
    assert path.read_text() == "old"
    assert [each.name for each in tmp_path.iterdir()] == ["file"]


def test_a_link_stays_a_link_and_a_pipe_is_written_to(tmp_path):
    target, link, pipe = (tmp_path / name for name in ("target", "link", "pipe"))
    target.write_text("old")
    link.symlink_to(target)
    write_text(link, "new")
    assert link.is_symlink()
    assert target.read_text() == "new"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    write_text(pipe, "text")
    assert os.read(reader, 9) == b"text"
    os.close(reader)
    assert pipe.is_fifo()
    with pytest.raises(WriteError, match="/dev/full cannot be written .No space left"):
        write_text(Path("/dev/full"), "text")
    assert not Path("/dev/full.tmp").exists()


def test_another_error_than_of_the_disk_stays_what_it_is(tmp_path):
    path = tmp_path / "file"

    def interrupted() -> None:
        with replacing(path) as file:
            file.write(b"half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert list(tmp_path.iterdir()) == []


@contextlib.contextmanager
def file_sizes_limited_to(size: int) -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_what_could_not_be_added_is_added_later_and_once(tmp_path):
    """The file takes a part of the text up to the limit of its size, and the rest without it."""
    path = tmp_path / "metrics.jsonl"
    file = AppendedFile(path)
    lines = [f"{number:099}\n" for number in range(20)]
    file.append(lines[0])
    with file_sizes_limited_to(550):
        for line in lines[1:10]:
            with contextlib.suppress(WriteError):
                file.append(line)
        with pytest.raises(WriteError, match=r"metrics.jsonl cannot be written \(File too large\)"):
            file.append(lines[10])
        assert path.stat().st_size == 550
    for line in lines[11:]:
        file.append(line)
    assert path.read_text() == "".join(lines)


def test_json_comes_back(tmp_path):
    path = tmp_path / "config.json"
    write_json(path, {"a": [1, None]})
    assert json.loads(path.read_text()) == {"a": [1, None]}


def test_line_ends_are_written_and_read_as_they_are(tmp_path):
    path = tmp_path / "evaluations.csv"
    assert complete_lines(path) == []
    write_text(path, "a,b\r\n1,2\r\n3,")
    assert path.read_bytes() == b"a,b\r\n1,2\r\n3,"
    assert complete_lines(path) == ["a,b\r\n", "1,2\r\n"]


@pytest.mark.parametrize("text", ["{", "[1]", "3", ""])
def test_what_is_no_object_is_refused_with_its_place(text):
    with pytest.raises(RunError, match=r"^line 3 of metrics.jsonl cannot be read \(.*restore it"):
        parse_object(text, Path("metrics.jsonl"), 3)
    with pytest.raises(RunError, match=r"^config.json cannot be read"):
        parse_object(text, Path("config.json"))


def test_nested_settings_have_dotted_keys():
    nested = {"a": 1, "b": {"c": None, "d": {"e": [2]}}, "empty": {}}
    assert flatten(nested) == {"a": 1, "b.c": None, "b.d.e": [2]}
