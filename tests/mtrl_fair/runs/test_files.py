"""Files are written as a whole, and read up to their last complete line."""

import json
import os
from pathlib import Path

import pytest

from mtrl_fair.runs.files import (
    RunError,
    complete_lines,
    flatten,
    parse_object,
    write_json,
    write_text,
)


def test_a_write_that_fails_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "config.json"
    write_json(path, {"a": [1, None]})
    assert json.loads(path.read_text()) == {"a": [1, None]}

    def fail(descriptor):
        raise OSError("no space left on the device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="no space"):
        write_text(path, "half of the new fi")
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
