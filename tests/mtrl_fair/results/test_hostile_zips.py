"""A zip file of runs cannot fill the memory, and its names lead nowhere else."""

import io
import zipfile

import pytest

from mtrl_fair.results.storage import MAX_BYTES, open_runs, write_zip
from mtrl_fair.runs import RunError
from tests.mtrl_fair.results.written_runs import KIND


def packed(path, names, content=b"{}", method=zipfile.ZIP_DEFLATED):
    with zipfile.ZipFile(path, "w", method) as archive:
        for name in names:
            archive.writestr(name, content)
    return path


@pytest.mark.parametrize(
    "name", ["../x/config.json", "/x", "", "./x", "a\nb/config.json", "x" * 300]
)
def test_names_that_are_none_of_a_run(name, tmp_path):
    path = packed(tmp_path / "runs.zip", ["run/config.json", name or "/"])
    with pytest.raises(RunError, match="cannot be read as a zip file of runs .*is no file in the"):
        open_runs(path, KIND)


def test_a_small_file_that_unpacks_to_a_large_one(tmp_path):
    path = packed(tmp_path / "runs.zip", ["run/config.json"], bytes(MAX_BYTES + 1))
    assert path.stat().st_size < MAX_BYTES / 500
    with pytest.raises(RunError, match=f"more than {MAX_BYTES} bytes when they are unpacked"):
        open_runs(path, KIND)


def test_a_file_that_would_be_too_large_is_not_written(tmp_path):
    path = tmp_path / "runs.zip"
    with pytest.raises(RunError, match=f"would hold more than {MAX_BYTES} bytes"):
        write_zip(path, {"run": {"metrics.jsonl": bytes(MAX_BYTES + 1)}})
    assert not path.exists()


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_compressions_that_are_unpacked_without_a_bound(method, tmp_path):
    path = packed(tmp_path / "runs.zip", ["run/config.json"], method=method)
    with pytest.raises(RunError, match="encrypted or compressed in another way"):
        open_runs(path, KIND)


def test_an_encrypted_member(tmp_path):
    content = io.BytesIO()
    packed(content, ["run/config.json"])
    changed = bytearray(content.getvalue())
    changed[changed.index(b"PK\x01\x02") + 8] |= 1
    path = tmp_path / "runs.zip"
    path.write_bytes(changed)
    with pytest.raises(RunError, match="encrypted or compressed in another way"):
        open_runs(path, KIND)
