"""When something goes wrong: real processes, really killed, stopped and interrupted."""

import gc
import os
import pickle
import random
import signal
import socket
import subprocess
import sys
import time
from itertools import count
from pathlib import Path

import metaworld
import mujoco
import numpy as np
import pytest
from gymnasium.error import NoAsyncCallError
from metaworld.env_dict import ALL_V3_ENVIRONMENTS

from envs import TaskSet, WorkerError, make_vec, processes
from envs.fast import fast_class
from envs.snapshots import SnapshotResets

PAIR = ("drawer-close-v3", "reach-v3")
ZERO = np.zeros((2, 4), np.float32)
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def pair() -> TaskSet:
    return TaskSet.make(PAIR, seed=3)


@pytest.fixture
def make(request):
    """make_vec; when the test ends, the environment is closed and its processes are gone."""

    def make(*args, **kwargs):
        def close():
            venv.close()
            workers = venv._workers.processes
            assert None not in [worker.returncode for worker in workers]  # reaped: no zombies
            assert not any(is_alive(worker.pid) for worker in workers)

        venv = make_vec(*args, **kwargs)
        request.addfinalizer(close)
        return venv

    return make


class Interrupted(BaseException):
    """What a signal handler raises, as Python's own does for Ctrl-C."""


@pytest.fixture
def interrupt():
    """Raises `Interrupted` in some seconds' time."""

    def handle(*_):
        raise Interrupted

    before = signal.signal(signal.SIGALRM, handle)
    yield lambda seconds: signal.setitimer(signal.ITIMER_REAL, seconds)
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


def is_alive(pid: int) -> bool:
    """Whether it can still do anything; one that only waits for init to reap it cannot."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def children(pid: int) -> set[int]:
    lists = Path(f"/proc/{pid}/task").glob("*/children")
    return {int(child) for found in lists for child in found.read_text().split()}


def wait_until(condition, seconds: float = 30) -> bool:
    deadline = time.monotonic() + seconds
    while not (holds := condition()) and time.monotonic() < deadline:
        time.sleep(0.02)
    return holds


def shared_segments() -> set[str]:
    return {path.name for path in Path("/dev/shm").glob("*") if not path.name.startswith("torch_")}


def long(*values):
    return pytest.param(*values, marks=pytest.mark.long)


@pytest.fixture
def impatient(monkeypatch):
    """A worker that has not ended half a second after closing is killed."""
    monkeypatch.setattr(processes, "CLOSE_TIMEOUT", 0.5)


def assert_says_so_again(venv, message: str) -> None:
    """Once a worker has failed, every call says what happened."""
    state: dict = {}
    for call in (
        venv.reset,
        venv.state_dict,
        venv.step_wait,
        lambda: venv.step(ZERO),
        lambda: venv.step_async(ZERO),
        lambda: venv.load_state_dict(state),
    ):
        with pytest.raises(WorkerError, match=message) as caught:
            call()
        assert "Close this environment and make a new one." in str(caught.value)


# The parent ends


PARENT = """
import os, signal, sys, time
import numpy as np
from envs import make_vec

stop = []
if {handled}:
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.append(1))

def step_on(times=10**9):
    for _ in range(times):
        venv.step(np.zeros((2, 4)))

print("imported", flush=True)
venv = make_vec(["drawer-close-v3", "reach-v3"], seed=3, num_workers=2)
venv.reset()
venv.step(np.zeros((2, 4)))
print(*(process.pid for process in venv._workers.processes), flush=True)
{then}
"""


class Parent:
    """A process that has an environment, in a terminal's foreground group of its own."""

    def __init__(self, then: str, folder: Path, handled: bool = False):
        self.folder = folder
        self.segments = shared_segments()
        self.process = subprocess.Popen(
            [sys.executable, "-c", PARENT.format(then=then, handled=handled)],
            cwd=folder,
            env=os.environ | {"PYTHONPATH": str(ROOT), "TMPDIR": str(folder)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        assert self.process.stdout.readline() == "imported\n"
        self.workers: set[int] = set()

    def made(self) -> "Parent":
        self.workers = set(map(int, self.process.stdout.readline().split()))
        assert len(self.workers) == 2
        assert all(is_alive(pid) for pid in self.workers)
        return self

    def finish(self) -> tuple[int, str, str]:
        """Exit code and output; nothing else may be left of it."""
        try:
            out, err = self.process.communicate(timeout=60)  # workers have its output open, too
            assert wait_until(lambda: not any(is_alive(pid) for pid in self.workers), 10)
        finally:
            for pid in {self.process.pid, *self.workers}:
                if is_alive(pid):
                    os.kill(pid, signal.SIGKILL)
        assert list(self.folder.iterdir()) == []
        assert shared_segments() <= self.segments
        return self.process.returncode, out, err


@pytest.mark.parametrize(
    ("then", "code", "error"),
    [
        ("raise ValueError('mine')", 1, "ValueError: mine"),
        ("venv.step_async(np.zeros((2, 4))); sys.exit(5)", 5, ""),
        long("sys.exit(3)", 3, ""),
        long("os._exit(4)", 4, ""),
        long("step_on(50)", 0, ""),
        long("venv.close()", 0, ""),
    ],
)
def test_workers_end_with_the_parent(tmp_path, then, code, error):
    returncode, _, err = Parent(then, tmp_path).made().finish()
    assert returncode == code
    assert err.strip().splitlines()[-1:] == ([error] if error else [])
    assert err.count("Traceback") == bool(error)  # workers say nothing of their own


@pytest.mark.parametrize(
    ("number", "to", "then"),
    [
        (signal.SIGKILL, "the parent", "step_on()"),
        (signal.SIGTERM, "the parent", "step_on()"),
        (signal.SIGINT, "all", "step_on()"),
        long(signal.SIGKILL, "the parent", "time.sleep(60)"),
        long(signal.SIGTERM, "all", "step_on()"),
        long(signal.SIGINT, "the parent", "step_on()"),
    ],
)
def test_workers_end_with_a_killed_parent(tmp_path, number, to, then):
    parent = Parent(then, tmp_path).made()
    time.sleep(0.1)
    (os.kill if to == "the parent" else os.killpg)(parent.process.pid, number)
    returncode, _, err = parent.finish()
    assert returncode == -number
    assert err.count("Traceback") == (number == signal.SIGINT)  # the parent's KeyboardInterrupt


@pytest.mark.parametrize(
    ("number", "started"),
    [
        (signal.SIGKILL, 0.05),
        (signal.SIGINT, 0.5),
        long(signal.SIGKILL, 0.5),
        long(signal.SIGTERM, 0.5),
        long(signal.SIGINT, 0.05),
    ],
)
def test_workers_end_with_a_parent_killed_while_it_starts_them(tmp_path, number, started):
    parent = Parent("step_on()", tmp_path)
    pid = parent.process.pid
    assert wait_until(lambda: len(children(pid)) == 2)
    parent.workers = children(pid)
    time.sleep(started)
    os.kill(pid, number)
    returncode, _, err = parent.finish()
    assert returncode == -number
    assert err.count("Traceback") == (number == signal.SIGINT)


@pytest.mark.parametrize(
    ("number", "starting"),
    [(signal.SIGINT, True), (signal.SIGTERM, False), long(signal.SIGTERM, True)],
)
def test_only_the_parent_decides_what_a_signal_to_all_means(tmp_path, number, starting):
    """As when Ctrl-C is pressed, or a cluster ends a job, and training saves a checkpoint."""
    then = "while not stop: step_on(1)\nstep_on(50); venv.close(); print('saved')"
    parent = Parent(then, tmp_path, handled=True)
    if starting:
        assert wait_until(lambda: len(children(parent.process.pid)) == 2)
        time.sleep(0.3)  # python itself has started
        os.killpg(parent.process.pid, number)
        parent.made()
    else:
        parent.made()
        os.killpg(parent.process.pid, number)
    assert parent.finish() == (0, "saved\n", "")


@pytest.mark.parametrize("then", ["os.kill(os.getpid(), 9)", "venv.close()"])
def test_workers_end_although_a_fork_of_the_parent_lives_on(tmp_path, then):
    fork = "fork = os.fork()\nif fork == 0: time.sleep(60); os._exit(0)\nprint(fork, flush=True)\n"
    parent = Parent(
        f"{fork}{then}\nprint([process.returncode for process in venv._workers.processes])",
        tmp_path,
    ).made()
    fork = int(parent.process.stdout.readline())
    try:
        assert wait_until(lambda: not any(is_alive(pid) for pid in parent.workers), 10)
    finally:
        os.kill(fork, signal.SIGKILL)
    _, out, _ = parent.finish()
    assert out == ("[0, 0]\n" if "close" in then else "")


def test_workers_end_with_an_environment_that_was_forgotten(tmp_path):
    parent = Parent("del venv\ntime.sleep(60)", tmp_path).made()
    try:
        assert wait_until(lambda: not any(is_alive(pid) for pid in parent.workers), 10)
    finally:
        parent.process.kill()
    assert parent.finish()[2] == ""


@pytest.mark.parametrize("fails", [False, True])
def test_no_descriptor_is_left_open(pair, fails):
    gc.collect()
    before = len(os.listdir("/proc/self/fd"))
    if fails:
        with pytest.raises(WorkerError):
            make_vec(broken(pair, 0, 0, b"garbage"), num_workers=1)
    else:
        venv = make_vec(pair, num_workers=1)
        venv.close()
        del venv
    gc.collect()
    assert len(os.listdir("/proc/self/fd")) == before


# A worker ends or hangs


def test_a_killed_worker_is_reported_with_its_tasks(make, pair):
    venv = make(pair, num_workers=2)
    venv.reset()
    worker = venv._workers.processes[1]
    worker.kill()
    worker.wait()
    message = (
        f"worker 1 \\(process {worker.pid}; reach-v3\\) was ended by SIGKILL"
        " \\(by the system if memory ran out\\)"
    )
    with pytest.raises(WorkerError, match=message):
        venv.step(ZERO)
    assert_says_so_again(venv, message)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV])
def test_a_worker_that_dies_during_a_step_is_reported(make, pair, number):
    venv = make(pair, num_workers=1)
    venv.reset()
    worker = venv._workers.processes[0]
    worker.send_signal(signal.SIGSTOP)
    venv.step_async(ZERO)
    worker.send_signal(number)
    worker.send_signal(signal.SIGCONT)
    message = f"worker 0 \\(process {worker.pid}; drawer-close-v3, reach-v3\\) was ended by"
    with pytest.raises(WorkerError, match=f"{message} {number.name}"):
        venv.step_wait()
    assert_says_so_again(venv, number.name)


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("call", ["step", "reset"])
def test_a_worker_that_hangs_is_given_up_and_ended(make, pair, call, interrupt):
    interrupt(60)  # or a failure would take for ever
    venv = make(pair, num_workers=2, timeout=0.5)
    venv.reset()
    worker = venv._workers.processes[0]
    worker.send_signal(signal.SIGSTOP)
    message = (
        f"worker 0 \\(process {worker.pid}; drawer-close-v3\\) has not answered for 0.5 seconds"
    )
    with pytest.raises(WorkerError, match=message):
        venv.step(ZERO) if call == "step" else venv.reset()
    assert_says_so_again(venv, message)
    venv.close()
    assert worker.returncode == -signal.SIGKILL


# A worker raises


def broken(task_set: TaskSet, row: int, first: int, data: bytes) -> TaskSet:
    """The same with unreadable goals from the `first` on."""
    goals = list(task_set.goals)
    bad = metaworld.Task(task_set.names[row], data)
    goals[row] = goals[row][:first] + (bad,) * (50 - first)
    return TaskSet(task_set.names, tuple(goals))


GARBAGE = [b"garbage", b"", b"\x80"]
"""Unpickling raises UnpicklingError, and EOFError twice, which is no end of the worker's pipe."""


@pytest.mark.parametrize("data", GARBAGE)
def test_a_worker_that_cannot_start_says_why(pair, data):
    before = children(os.getpid())
    with pytest.raises(WorkerError) as caught:
        make_vec(broken(pair, 1, 0, data), num_workers=2)
    message = str(caught.value)
    assert "worker 1 (process" in message
    assert "; reach-v3) failed while making reach-v3:\nTraceback (most recent call" in message
    assert "pickle.loads(task.data)" in message
    assert children(os.getpid()) <= before


@pytest.mark.parametrize("data", GARBAGE[:2])
def test_a_worker_that_raises_in_a_step_says_why(make, pair, data):
    venv = make(
        broken(pair, 1, 1, data), num_workers=1, max_episode_steps=5, goal_order="sequential"
    )
    venv.reset()
    for _ in range(4):
        venv.step(ZERO)
    with pytest.raises(WorkerError) as caught:
        venv.step(ZERO)
    message = str(caught.value)
    assert "drawer-close-v3, reach-v3) failed while stepping reach-v3:\nTraceback" in message
    assert "pickle.loads(task.data)" in message
    assert_says_so_again(venv, "failed while stepping reach-v3:\nTraceback")
    venv.close()
    with pytest.raises(RuntimeError, match="is closed"):
        venv.reset()


def test_the_caller_that_raises_says_why_and_for_which_task(make, pair):
    options = {"num_workers": 2, "caller_steps": True, "max_episode_steps": 2}
    message = "this process, which steps reach-v3, failed while making reach-v3: UnpicklingError"
    with pytest.raises(WorkerError, match=message):
        make_vec(broken(pair, 1, 0, b"garbage"), **options)
    venv = make(broken(pair, 1, 1, b"garbage"), **options, goal_order="sequential")
    venv.reset()
    venv.step(ZERO)
    message = "this process, which steps reach-v3, failed while stepping reach-v3: UnpicklingError"
    with pytest.raises(WorkerError, match=message) as caught:
        venv.step(ZERO)
    assert isinstance(caught.value.__cause__, pickle.UnpicklingError)
    assert_says_so_again(venv, message)


def test_a_worker_that_raises_in_a_reset_says_why(make, pair):
    venv = make(broken(pair, 0, 1, b"garbage"), num_workers=1)
    healthy = make(pair, num_workers=1)
    healthy.reset()
    state = healthy.state_dict()
    with pytest.raises(WorkerError, match="failed while resetting drawer-close-v3:\nTraceback"):
        venv.reset()
    again = make(broken(pair, 0, 1, b"garbage"), num_workers=1)
    with pytest.raises(WorkerError, match="failed while restoring drawer-close-v3:\nTraceback"):
        again.load_state_dict(state | {"tasks": again._identity()})


class Exit:
    """Whose unpickling ends the process."""

    def __reduce__(self):
        return os._exit, (7,)


def test_a_worker_that_ends_in_a_command_is_reported(make, pair):
    """It has taken the command, so that its end of the socket closes with nothing unread."""
    venv = make(broken(pair, 0, 1, pickle.dumps(Exit())), num_workers=1)
    message = "drawer-close-v3, reach-v3\\) ended with exit code 7"
    with pytest.raises(WorkerError, match=message):
        venv.reset(seed=1)
    assert_says_so_again(venv, message)


# A worker cannot start


def test_a_missing_interpreter_is_reported(pair, monkeypatch):
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    message = "worker 0 \\(drawer-close-v3\\) could not start: .*No such file .*'/nowhere/python'"
    with pytest.raises(WorkerError, match=message):
        make_vec(pair, num_workers=2)


def script(path: Path, text: str) -> str:
    path.write_text(text)
    path.chmod(0o755)
    return str(path)


@pytest.mark.parametrize("lines", ["exit 7", "sleep 0.3\nexit 7"])
def test_an_interpreter_that_fails_is_reported(pair, tmp_path, monkeypatch, lines):
    before = children(os.getpid())
    monkeypatch.setattr(sys, "executable", script(tmp_path / "python", f"#!/bin/sh\n{lines}"))
    with pytest.raises(WorkerError, match="worker [01] .* ended with exit code 7"):
        make_vec(pair, num_workers=2)
    assert children(os.getpid()) <= before


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize(("size", "answered"), [(1, "answered"), (10**6, "listened")])
def test_a_worker_that_hangs_at_its_start_is_given_up(
    pair, tmp_path, monkeypatch, interrupt, size, answered
):
    """It is waited for, or what it should do fits into no buffer."""
    interrupt(60)  # or a failure would take for ever
    before = children(os.getpid())
    monkeypatch.setattr(sys, "executable", script(tmp_path / "python", "#!/bin/sh\nexec sleep 60"))
    monkeypatch.setattr(processes, "START_TIMEOUT", 0.3)
    with pytest.raises(WorkerError, match=f"worker 0 .* has not {answered} for 0.3 seconds"):
        make_vec(broken(pair, 0, 1, bytes(size)), num_workers=2)
    assert children(os.getpid()) <= before


@pytest.mark.parametrize("size", [1, 10**6])
def test_a_worker_that_cannot_import_says_why(pair, tmp_path, monkeypatch, size):
    """It has ended by the time that it is told what to do, and that fits into no buffer."""
    (tmp_path / "metaworld.py").write_text("raise ImportError('libGL is missing')")
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    with pytest.raises(WorkerError) as caught:
        make_vec(broken(pair, 0, 1, bytes(size)), num_workers=1)
    assert "reach-v3) failed while importing:\nTraceback" in str(caught.value)
    assert "ImportError: libGL is missing" in str(caught.value)


def test_sockets_with_a_default_timeout_change_nothing(make, pair):
    socket.setdefaulttimeout(1e-3)
    try:
        venv = make(pair, num_workers=1)
    finally:
        socket.setdefaulttimeout(None)
    venv.reset()
    for _ in range(20):
        venv.step(ZERO)


# Interrupts


@pytest.fixture
def interrupted(interrupt):
    """Interrupts calls while they wait for a worker."""

    def interrupted(venv, *calls):
        worker = venv._workers.processes[0]
        worker.send_signal(signal.SIGSTOP)
        for call in calls:
            interrupt(0.1)
            try:
                with pytest.raises(Interrupted):
                    call()
            finally:
                interrupt(0)
        worker.send_signal(signal.SIGCONT)

    return interrupted


def play(venv, steps: int = 30) -> list:
    actions = np.random.default_rng(0).uniform(-1, 1, (steps, 2, 4))
    return [venv.reset(seed=4)[0], *(venv.step(action)[:2] for action in actions)]


def same(ours: list, theirs: list) -> bool:
    return pickle.dumps(ours) == pickle.dumps(theirs)


def test_an_interrupted_step_can_be_finished(make, pair, interrupted):
    venv = make(pair, num_workers=2, max_episode_steps=20)
    expected = play(venv)
    venv.reset(seed=4)
    actions = np.random.default_rng(0).uniform(-1, 1, (30, 2, 4))
    for step, action in enumerate(actions, start=1):
        if step in (5, 20):  # the second one ends episodes
            interrupted(venv, lambda action=action: venv.step(action), venv.step_wait)
            result = venv.step_wait()
        else:
            result = venv.step(action)
        assert same(result[:2], expected[step])
    with pytest.raises(NoAsyncCallError):
        venv.step_wait()


def test_after_an_interrupted_reset_another_is_needed(make, pair, interrupted):
    venv = make(pair, num_workers=2, max_episode_steps=20)
    expected = play(venv)
    for options in ({}, {"options": {"reset_mask": np.array([True, False])}}):
        interrupted(venv, lambda options=options: venv.reset(**options))
        with pytest.raises(RuntimeError, match="call reset\\(\\)"):
            venv.step(ZERO)
        assert same(play(venv), expected)


def test_an_interrupted_restore_can_be_repeated(make, pair, interrupted):
    venv = make(pair, num_workers=2)
    venv.reset(seed=4)
    for _ in range(50):
        venv.step(ZERO)
    state = venv.state_dict()
    expected = venv.step(ZERO)[0]
    interrupted(venv, lambda: venv.load_state_dict(state))
    with pytest.raises(RuntimeError, match="call reset\\(\\)"):
        venv.step(ZERO)
    venv.load_state_dict(state)
    assert (venv.step(ZERO)[0] == expected).all()


def test_an_interrupted_environment_can_be_closed(make, pair, interrupted):
    venv = make(pair, num_workers=1)
    venv.reset()
    interrupted(venv, lambda: venv.step(ZERO))
    venv.close()
    assert venv._workers.processes[0].returncode == 0


def goes_on(venv, reference) -> bool:
    """Whether an interrupted environment can be used, and is in the state that it says, or reports
    that it cannot."""
    try:
        try:
            venv.step_wait()
        except NoAsyncCallError:
            if venv._needs_reset.any():
                venv.reset()
        observation = venv.step(ZERO)[0]
    except WorkerError as error:
        assert "an interrupt came between" in str(error)  # noqa: PT017
        return False
    state = venv.state_dict()
    assert len(set(state["elapsed"])) == 1  # no row has taken a step more than the others
    assert (reference.load_state_dict(state) == observation).all()
    return True


@pytest.mark.parametrize("caller_steps", [False, True])
def test_an_interrupt_at_any_moment_is_harmless_or_reported(make, pair, interrupt, caller_steps):
    options = {"num_workers": 2, "caller_steps": caller_steps, "max_episode_steps": 20}
    venv, reference = make(pair, **options), make(pair, **options)
    venv.reset()
    generator = random.Random(0)
    for _ in range(300):
        try:
            interrupt(generator.uniform(2e-5, 1e-3))
            venv.reset() if generator.random() < 0.1 else venv.step(ZERO + generator.random())
            interrupt(0)
        except Interrupted:
            if not goes_on(venv, reference):
                break


def interrupted_where(condition, call) -> bool:
    """Interrupts a call at the first line of ours whose frame fulfils the condition."""

    def trace(frame, event, _):
        if not frame.f_code.co_filename.startswith(str(ROOT / "envs")):
            return None
        if event == "line" and condition(frame):
            raise Interrupted
        return trace

    sys.settrace(trace)
    try:
        call()
    except Interrupted:
        return True
    finally:
        sys.settrace(None)
    return False


@pytest.mark.parametrize(
    ("function", "variable"),
    [("command", "ours"), ("_receive", "index"), ("obey", "command"), ("_draw_goal", "row")],
)
def test_an_interrupt_that_leaves_something_unknown_is_reported(make, pair, function, variable):
    venv = make(pair, num_workers=2, caller_steps=True, max_episode_steps=1)
    venv.reset()
    assert interrupted_where(
        lambda frame: frame.f_code.co_name == function and variable in frame.f_locals,
        lambda: venv.step(ZERO),
    )
    assert_says_so_again(venv, "an interrupt came between a command and its answer")


def coordinates(frame) -> bool:
    """Rather than steps an environment."""
    return frame.f_code.co_filename.endswith(("envs/vector.py", "envs/processes.py"))


@pytest.mark.long
@pytest.mark.parametrize("caller_steps", [False, True])
@pytest.mark.parametrize("name", ["step", "reset", "load_state_dict"])
def test_an_interrupt_at_any_line_is_harmless_or_reported(pair, name, caller_steps):
    options = {
        "num_workers": 1 + caller_steps,
        "caller_steps": caller_steps,
        "max_episode_steps": 2,
    }
    venv, reference = (make_vec(pair, **options) for _ in range(2))
    reported = line = 0
    while True:
        venv.reset()
        venv.step(ZERO)
        arguments = {"step": (ZERO,), "reset": (), "load_state_dict": (venv.state_dict(),)}[name]
        lines = count()
        if not interrupted_where(
            lambda frame: coordinates(frame) and next(lines) == line,  # noqa: B023
            lambda: getattr(venv, name)(*arguments),  # noqa: B023
        ):
            break
        if not goes_on(venv, reference):
            reported += 1
            venv.close()
            venv = make_vec(pair, **options)
        line += 1
    venv.close()
    reference.close()
    assert 0 < reported < line


# The simulation becomes unstable


@pytest.mark.parametrize("name", ["drawer-close-v3", "pick-place-v3", "peg-insert-side-v3"])
def test_an_unstable_simulation_is_reported_as_the_package_does(tmp_path, monkeypatch, name):
    """MuJoCo warns, in a file too, and starts from its initial state; the episode goes on."""
    goal = TaskSet.make(name, seed=3).goals[0][0]
    results, logs = [], []
    for env_class in (ALL_V3_ENVIRONMENTS[name], fast_class(name)):
        folder = tmp_path / str(len(results))
        folder.mkdir()
        monkeypatch.chdir(folder)
        env = env_class()
        resets = None if not results else SnapshotResets(env)
        steps = []
        for _ in range(3):  # the later ones from a snapshot
            if resets is None:
                env.set_task(goal)
                steps.append(env.reset()[0])
            else:
                steps.append(resets.reset(0, goal))
            for step, action in enumerate(np.random.default_rng(0).uniform(-1, 1, (12, 4))):
                if step == 5:
                    env.data.qpos[0] = 1e11
                if step in (3, 7, 9):
                    env.data.qvel[:] = {3: 1e9, 7: np.nan, 9: -1e9}[step]
                if step in (3, 5, 7, 9):
                    mujoco.mj_forward(env.model, env.data)  # as at the end of every step
                steps.append(env.step(action.astype(np.float32)))
                steps.append((env.data.time, env.data.warning.number.tolist()))
        results.append(steps)
        log = (folder / "MUJOCO_LOG.TXT").read_text().splitlines()
        logs.append([line for line in log if line.startswith("WARNING")])
    for package, ours in zip(*results, strict=True):
        assert same(plain(ours), plain(package))
    assert logs[0] == logs[1]
    assert len(logs[0]) >= 3  # one in each episode
    assert "The simulation is unstable" in logs[0][0]


def plain(values):
    """Arrays and numpy's numbers as bytes and Python's numbers, so that NaN equals itself."""
    if isinstance(values, dict):
        return {key: plain(value) for key, value in values.items()}
    if isinstance(values, tuple | list):
        return [plain(value) for value in values]
    return np.asarray(values, np.float64).tobytes()
