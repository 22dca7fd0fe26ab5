"""Wrong command lines: one line that names the value, exit code 2, and nothing is written.

Cases beside those of `tests/scripts`: numbers that are too large or none, names with odd
characters, files in the place of folders, and what the parser of flags refuses by itself.
"""

import pytest

from scripts import archive, bench, evaluate, plot, supervised, table, toy, train
from tests.mtrl_fair.results.written_runs import make_run
from tests.scripts.commands import run_here

QUICK = "mt10-quickstart"
HUGE = "9" * 5000
COMMAND_LINES = [
    (train, [QUICK, "--total-steps", "1e400"], "--total-steps: invalid literal"),
    (train, [QUICK, "--total-steps", "1.5"], "'1.5'"),
    (train, [QUICK, "--total-steps", HUGE], "--total-steps: Exceeds the limit"),
    (train, [QUICK, "--threads", "100000"], "--threads is 100000, expected at most 1024"),
    (train, [QUICK, "--seed", "-1"], "--seed is -1, expected"),
    (train, [QUICK, "--seed", str(2**32)], "--seed is 4294967296, expected"),
    (train, [QUICK, "--tasks", ""], "unknown task ''"),
    (train, [QUICK, "--tasks", "mt10", "mt50"], "mt10 is a whole benchmark"),
    (train, [QUICK, "--tasks", "a\nb\x1b[31m"], r"unknown task 'a\nb\x1b[31m'"),
    (train, [QUICK, "--tasks", "x" * 9000], "unknown task 'xxx"),
    (train, [QUICK, "--agent.discount", "2"], "discount is 2.0, expected a number from 0 to 1"),
    (train, [QUICK, "--agent.batch-size", "0"], "batch_size is 0, expected at least 1"),
    (train, [QUICK, "--agent.replay-capacity", "-5"], "replay_capacity is -5"),
    (train, [QUICK, "--eval-every", "0"], "--eval-every is 0, expected at least 1"),
    (train, [QUICK, "--log-every", "-3"], "--log-every is -3, expected at least 1"),
    (train, [QUICK, "--stop-at-success", "nan"], "--stop-at-success is nan"),
    (train, [QUICK, "--alpha", "inf"], "alpha is inf"),
    (train, [QUICK, "--device", ""], "the device '' is not there: choose auto or cpu"),
    (train, [QUICK, "--environment.reward-version", "v3"], "invalid choice 'v3'"),
    (train, [QUICK, "--environment.num-workers", "-1"], "num_workers is -1"),
    (train, [QUICK, "--combining.options", "c"], "--combining.options"),
    (train, [QUICK, "--run-dir", "x" * 300], "cannot be made (File name too long)"),
    (train, [QUICK, "--run-dir", "file/run"], "cannot be made (Not a directory)"),
    (train, [QUICK, "extra"], "Unrecognized options: extra; --help shows all flags"),
    (train, ["--resume"], "Missing value for argument '--resume'"),
    (train, ["--resume", "file"], "there is no run at file"),
    (train, ["--resume", "a\0b"], r"there is no run at a\x00b"),
    (evaluate, [], "RUN The run directory. (required)"),
    (evaluate, ["file"], "there is no run at file"),
    (evaluate, ["run", "--episodes", "x"], "--episodes"),
    (evaluate, ["run", "--checkpoint", "newest"], "invalid choice 'newest'"),
    (evaluate, ["run", "other"], "Unrecognized options: other"),
    (supervised, ["toy", "--seeds", str(10**9)], "--seeds is 1000000000, expected at most 1000"),
    (supervised, ["toy", "--epochs", "x"], "--epochs"),
    (supervised, ["toy", "--learning-rate", "nan"], "--learning-rate is nan"),
    (supervised, ["toy", "--loader-workers", "-1"], "--loader-workers is -1"),
    (supervised, ["toy", "--pooling", "max"], "invalid choice 'max'"),
    (supervised, ["toy", "--data", "nowhere"], "toy reads no files: leave --data"),
    (supervised, ["multimnist", "--data", "file"], "there is no file"),
    (supervised, ["toy", "--run-dir", "file/x"], "cannot be made (Not a directory)"),
    (supervised, ["--resume", "a\0b"], r"there is nothing to resume at a\x00b"),
    (toy, ["--alphas", "x"], "--alphas"),
    (toy, ["--seed", str(2**70)], "--seed is 1180591620717411303424, expected"),
    (toy, ["--combiner", "si", "--min-loss", "nan"], "--min-loss is nan, expected a finite"),
    (toy, ["--steps", "-3"], "-3"),
    (toy, ["--output", "file"], "--output file: File exists: give a folder"),
    (toy, ["extra"], "Unrecognized options: extra"),
    (table, ["run", "--table", "sumary"], "invalid choice 'sumary'"),
    (table, ["file"], "file cannot be read as a zip file of runs"),
    (table, ["a\0b"], r"there is no run at a\x00b"),
    (table, ["run", "--step", "x"], "--step"),
    (table, ["run", "--table", "levels", "--level", "nan"], "the level is nan"),
    (plot, ["run", "--output", "a\0b.png"], "has a null character"),
    (plot, ["run", "--output", "noending"], "unknown ending of --output noending ''"),
    (plot, ["run", "--figure", "pie"], "invalid choice 'pie'"),
    (archive, ["run"], "--output"),
    (archive, ["run", "--output", "copies", "--lines", "x"], "--lines"),
    (archive, ["run", "--output", "file/copies.zip"], "file/copies.zip is in a file"),
    (bench, ["solvr"], "unknown benchmark 'solvr'"),
    (bench, ["solver", "--threads", "100000"], "--threads is 100000, expected at most 1024"),
    (bench, ["update", "--rounds", "0"], "--rounds is 0, expected at least 1"),
    (bench, ["env", "--steps", "7"], "--steps is 7, expected a multiple of 500"),
    (bench, ["train", "--presets", "nope"], "unknown preset 'nope'"),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("commands")
    make_run(folder, "run")
    (folder / "file").write_text("text\n")
    return folder


@pytest.mark.parametrize(
    ("script", "words", "message"),
    COMMAND_LINES,
    ids=[f"{script.__name__.split('.')[-1]}-{n}" for n, (script, *_) in enumerate(COMMAND_LINES)],
)
def test_a_wrong_command_line_is_one_line(script, words, message, folder, monkeypatch):
    monkeypatch.chdir(folder)
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    result = run_here(script.main, *words)
    assert (result.code, result.output) == (2, "")
    assert result.errors.startswith("error: ")
    assert result.errors.endswith("\n")
    assert result.errors[:-1].isprintable()
    assert len(result.errors) < 2000
    assert message in result.errors
    assert before == {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
