"""The goal cache: equal to the package's goals, and never in the way of a run."""

import hashlib
import json
import os
import pickle
import resource
import signal
import subprocess
import sys
import time
from importlib import metadata
from pathlib import Path

import metaworld
import numpy as np
import pytest

from envs import TaskSet, goals, tasks
from envs.goals import cache_folder, draw_goals, load_or_draw

REACH = "reach-v3"
ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("MTRL_FAIR_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "goals"


@pytest.fixture(scope="module")
def package() -> metaworld.MT1:
    return metaworld.MT1(REACH, seed=0)


@pytest.fixture
def load(package):
    """`load_or_draw` of reach-v3; notes when it draws."""

    def load(seed: int = 0):
        def draw():
            load.draws += 1
            return package.train_tasks

        return load_or_draw(REACH, [REACH], seed, draw)

    load.draws = 0
    return load


def never(*args, **kwargs):
    raise AssertionError("goals were drawn")


def no_drawing(monkeypatch) -> None:
    monkeypatch.setattr(tasks, "draw_goals", never)


def only_file(folder: Path) -> Path:
    (path,) = folder.iterdir()
    return path


def assert_equal(cached, drawn) -> None:
    """The unpickled content too, so that a failure of the bytes alone says that it is that."""
    assert [goal.env_name for goal in cached] == [goal.env_name for goal in drawn]
    for goal, expected in zip(cached, drawn, strict=True):
        assert type(goal) is type(expected) is metaworld.Task
        content, wanted = pickle.loads(goal.data), pickle.loads(expected.data)
        vector, other = content.pop("rand_vec"), wanted.pop("rand_vec")
        assert (vector.dtype, vector.shape) == (other.dtype, other.shape)
        assert vector.tobytes() == other.tobytes()
        assert content == wanted
        assert goal.data == expected.data


def test_mt10_from_the_file_equals_the_package_s(monkeypatch):
    drawn = metaworld.MT10(seed=0)
    names = tuple(drawn.train_classes)
    assert load_or_draw("mt10", names, 0, lambda: drawn.train_tasks) is drawn.train_tasks
    no_drawing(monkeypatch)
    task_set = TaskSet.make("mt10", 0)
    assert task_set.names == names
    assert_equal([goal for row in task_set.goals for goal in row], drawn.train_tasks)


def test_named_tasks_are_drawn_once(monkeypatch):
    pair = (REACH, "drawer-close-v3")
    first = TaskSet.make(pair, 1)
    no_drawing(monkeypatch)
    assert TaskSet.make(pair, 1) == TaskSet.make(list(pair), np.int64(1)) == first
    assert TaskSet.make(REACH, 1).goals == TaskSet.make([REACH], 1).goals == first.goals[:1]
    assert TaskSet.make((pair[1],) * 2, 1).goals == first.goals[1:] * 2
    monkeypatch.undo()
    for name, cached in zip(pair, first.goals, strict=True):
        assert_equal(cached, metaworld.MT1(name, seed=1).train_tasks)


@pytest.mark.long
@pytest.mark.parametrize("seed", [0, 7])
def test_all_fifty_are_drawn_as_the_package_draws_them(seed):
    package = metaworld.MT50(seed=seed)
    assert_equal(draw_goals(list(package.train_classes), seed), package.train_tasks)


def test_every_float_returns_exactly(package):
    """Subnormal, huge and negative zero: what decimal digits could lose."""
    vectors = (
        np.random.default_rng(0).standard_normal((50, 3))
        * 10.0 ** np.arange(-320, 280, 12)[:, None]
    )
    vectors[0] = [-0.0, 5e-324, np.nextafter(1.0, 2.0)]
    content = pickle.loads(package.train_tasks[0].data)
    drawn = [
        metaworld.Task(REACH, pickle.dumps({**content, "rand_vec": vector})) for vector in vectors
    ]
    load_or_draw(REACH, [REACH], 0, lambda: drawn)
    assert_equal(load_or_draw(REACH, [REACH], 0, never), drawn)


def test_another_seed_version_task_or_format_is_another_file(folder, load, package, monkeypatch):
    load(0)
    load(0)
    assert load.draws == 1
    load(1)
    monkeypatch.setattr(goals, "version", lambda name: "3.1.2")
    load(0)
    monkeypatch.setattr(goals, "FORMAT", 2)
    load(0)
    assert load.draws == len(list(folder.iterdir())) == 4
    TaskSet.make("drawer-close-v3", 0)
    assert len(list(folder.iterdir())) == 5


def test_the_files_can_be_read_by_others_as_the_umask_allows(folder, load):
    before = os.umask(0o027)
    try:
        load()
    finally:
        os.umask(before)
    assert only_file(folder).stat().st_mode & 0o777 == 0o640


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


def test_tasks_that_hold_more_than_a_goal_are_not_cached(folder, package):
    """A later version of the package could add one; dropping it would change the tasks."""
    drawn = [
        goal._replace(data=pickle.dumps({**pickle.loads(goal.data), "obj_type": "block"}))
        for goal in package.train_tasks
    ]
    with pytest.warns(RuntimeWarning, match="hold more than goal vectors"):
        assert load_or_draw(REACH, [REACH], 0, lambda: drawn) == drawn
    assert not folder.exists()


def test_where_the_files_are(monkeypatch, tmp_path):
    assert cache_folder() == tmp_path / "cache" / "goals"
    monkeypatch.setenv("MTRL_FAIR_CACHE", "")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert cache_folder() == tmp_path / "xdg" / "mtrl-fair" / "goals"
    for ignored in ("", "relative"):
        monkeypatch.setenv("XDG_CACHE_HOME", ignored)
        assert cache_folder() == tmp_path / "home" / ".cache" / "mtrl-fair" / "goals"
    monkeypatch.setenv("MTRL_FAIR_CACHE", "~/here")
    assert cache_folder() == tmp_path / "home" / "here" / "goals"


def test_without_a_home_folder_it_goes_on(monkeypatch, load, package):
    """As in a container whose user id has no name."""
    monkeypatch.setattr(goals, "_folders_warned_of", set())
    monkeypatch.setenv("MTRL_FAIR_CACHE", "~no-such-user/cache")
    with pytest.warns(RuntimeWarning, match="not cached in any folder.*home directory"):
        assert load() == package.train_tasks


def test_without_the_package_s_version_it_goes_on(monkeypatch, folder, load, package):
    """As with a copy of the package that was put on the path, not installed."""
    monkeypatch.setattr(goals, "_folders_warned_of", set())
    monkeypatch.setattr(goals, "version", lambda name: metadata.version("no-such-package"))
    with pytest.warns(RuntimeWarning, match="not cached in any folder.*no-such-package"):
        assert load() == package.train_tasks
    assert not folder.exists()


def test_the_global_random_state_is_untouched(monkeypatch):
    np.random.seed(5)
    before = repr(np.random.get_state(legacy=False))
    drawn = TaskSet.make(REACH, 2)
    assert repr(np.random.get_state(legacy=False)) == before
    no_drawing(monkeypatch)
    assert TaskSet.make(REACH, 2) == drawn
    assert repr(np.random.get_state(legacy=False)) == before


def python(code: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-c", code],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_processes_at_once_all_get_the_goals(folder, tmp_path, load, package):
    """They draw and write together; then each writes and reads the same file again and again."""
    code = f"""
import hashlib, os, time
from pathlib import Path
from envs import TaskSet, goals, tasks
started = Path({str(tmp_path)!r})
(started / f"ready-{{os.getpid()}}").touch()
while not (started / "go").exists():
    time.sleep(0.001)
drawn = list(TaskSet.make({REACH!r}, 0).goals[0])
(path,) = goals.cache_folder().glob("*.json")
for _ in range(100):
    goals._store(path, path.stem, [{REACH!r}], drawn)
    assert goals._load(path, path.stem, [{REACH!r}]) == drawn
print(hashlib.sha256(repr(drawn).encode()).hexdigest())
"""
    processes = [python(code) for _ in range(3)]
    while len(list(tmp_path.glob("ready-*"))) < 3:
        assert all(process.poll() is None for process in processes)
        time.sleep(0.01)
    (tmp_path / "go").touch()
    outputs = [process.communicate(timeout=60) for process in processes]
    digest = hashlib.sha256(repr(package.train_tasks).encode()).hexdigest()
    assert outputs == [(f"{digest}\n", "")] * 3
    assert load() == package.train_tasks
    assert load.draws == 0
    assert only_file(folder)


def test_a_kill_while_writing_leaves_no_half_file(folder, load, package):
    code = f"""
import os, signal
from envs import goals
def kill(descriptor):
    os.ftruncate(descriptor, os.fstat(descriptor).st_size // 2)
    os.kill(os.getpid(), signal.SIGKILL)
os.fsync = kill
goals.load_or_draw({REACH!r}, [{REACH!r}], 0, lambda: goals.draw_goals([{REACH!r}], 0))
"""
    process = python(code)
    assert process.communicate(timeout=60) == ("", "")
    assert process.returncode == -signal.SIGKILL
    half = only_file(folder)
    assert half.suffix == ".tmp"
    assert half.stat().st_size > 0
    assert load() == load() == package.train_tasks
    assert load.draws == 1
    assert {path.suffix for path in folder.iterdir()} == {".tmp", ".json"}
