"""A checkpoint is refused if a single bit differs, or if its state does not fit the run."""

import io
import zipfile

import pytest
import torch

from mtrl_fair.runs import RunError
from mtrl_fair.runs.adam_states import check_adam_state
from mtrl_fair.runs.checkpoints import load_checkpoint, save_checkpoint, state_of


@pytest.mark.parametrize("mmap", [False, True])
def test_a_flipped_bit_of_a_number_is_noticed(mmap, tmp_path):
    """torch itself loads the other number without a word."""
    path = tmp_path / "latest.pt"
    save_checkpoint(path, {"tensor": torch.full((100,), 0.1)})
    content = bytearray(path.read_bytes())
    content[content.index(torch.full((100,), 0.1).numpy().tobytes()) + 200] ^= 1
    path.write_bytes(content)
    assert (torch.load(path, weights_only=True)["tensor"] != 0.1).any()
    with pytest.raises(ValueError, match="is truncated or no checkpoint of mtrl-fair"):
        load_checkpoint(path, mmap=mmap)


def test_a_compressed_checkpoint_is_not_unpacked(tmp_path):
    path, packed = tmp_path / "latest.pt", io.BytesIO()
    save_checkpoint(path, {"tensor": torch.zeros(10**6)})
    with (
        zipfile.ZipFile(path) as archive,
        zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as compressed,
    ):
        for name in archive.namelist():
            compressed.writestr(name, archive.read(name))
    path.write_bytes(packed.getvalue())
    with pytest.raises(ValueError, match="is truncated or no checkpoint of mtrl-fair"):
        load_checkpoint(path)


def test_a_state_that_holds_itself_is_refused(tmp_path):
    path, nest = tmp_path / "latest.pt", {"a": []}
    nest["a"].append(nest)
    torch.save({"format": "mtrl-fair checkpoint 4", "nest": nest}, path)
    with pytest.raises(ValueError, match="is truncated or no checkpoint of mtrl-fair"):
        load_checkpoint(path)


@pytest.mark.parametrize("error", [KeyError("size"), RuntimeError("shapes"), TypeError("str")])
def test_a_state_that_does_not_fit_is_one_line(error, tmp_path):
    path = tmp_path / "latest.pt"
    message = "latest.pt does not fit this run .*restore the file or"
    with pytest.raises(RunError, match=message), state_of(path):
        raise error
    message = r"ours, and how to mend it \(in the checkpoint .*latest.pt"
    with pytest.raises(RunError, match=message), state_of(path):
        raise ValueError("ours, and how to mend it")


@pytest.mark.parametrize("error", [TimeoutError("of a worker"), torch.OutOfMemoryError("of a GPU")])
def test_an_error_that_is_not_the_state_s_stays_what_it_is(error, tmp_path):
    with pytest.raises(type(error)), state_of(tmp_path / "latest.pt", TimeoutError):
        raise error


def adam() -> torch.optim.Adam:
    parameter = torch.nn.Parameter(torch.ones(3))
    optimizer = torch.optim.Adam([parameter], lr=0.1)
    parameter.grad = torch.ones(3)
    optimizer.step()
    return optimizer


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: state["param_groups"][0].update(lr="0.1"), "lr of the saved optimiser is"),
        (lambda state: state["param_groups"][0].update(lr=float("nan")), "lr of the saved"),
        (lambda state: state["param_groups"][0].pop("betas"), "has no betas"),
        (lambda state: state["param_groups"][0].update(betas=(0.9, 2)), "betas of the saved"),
        (lambda state: state["param_groups"][0].update(fused="x"), "fused of the saved"),
        (lambda state: state["state"][0].pop("exp_avg"), "of a parameter .3."),
        (lambda state: state["state"][0].update(exp_avg=torch.ones(1, 3)), "of a parameter .3."),
        (lambda state: state["state"][0].update(step="x"), "of a parameter .3."),
    ],
)
def test_the_state_of_an_optimiser_fits_it(change, message):
    """torch loads each of these, and fails at the next step."""
    optimizer = adam()
    check_adam_state(optimizer, optimizer.state_dict())
    state = optimizer.state_dict()
    state["state"] = {index: dict(values) for index, values in state["state"].items()}
    change(state)
    with pytest.raises(ValueError, match=message):
        check_adam_state(optimizer, state)
