"""What a CUDA graph needs of an update, shown without a GPU; and the graph itself with one."""

import contextlib

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from agents import (
    ARCHITECTURES,
    MultiTaskSAC,
    NetworkConfig,
    ReplayBuffer,
    SACConfig,
    Transition,
    cuda_graph,
    make_updater,
)
from mtrl_fair import COMBINERS, FairGrad, make_combiner
from mtrl_fair.combiners.torchjd import GramianWeighting
from tests.agents.device_stand_in import (
    HostSyncError,
    NoHostSync,
    check_replayable,
    meta_as_cuda,
)

K, OBS, ACT, BATCH = 3, 5, 2, 8
NETWORK = NetworkConfig(width=4, depth=1, layer_norm=True)


def make_learner(
    device: str, combiner: str = "fairgrad", architecture: str = "multi_head", **options
) -> tuple[MultiTaskSAC, ReplayBuffer]:
    precision = options.pop("precision", "fp32")
    agent_options = {name: options.pop(name) for name in list(options) if hasattr(SACConfig, name)}
    if combiner == "fairgrad":
        options.setdefault("solver", "sgd")
    if combiner in ("si", "famo"):
        options["min_loss"] = -1e3
    if combiner in ("rlw", "pcgrad", "graddrop"):
        options["seed"] = 0
    config = SACConfig(actor=NETWORK, critic=NETWORK, **agent_options)
    combiners = [make_combiner(combiner, K, **options) for _ in range(3)]
    agent = MultiTaskSAC(
        OBS,
        ACT,
        K,
        *combiners[: 3 if config.combine_temperature else 2],
        architecture=architecture,
        config=config,
        precision=precision,
        device=device,
    )
    replay = ReplayBuffer(K, 100, OBS, ACT, normalize_reward=config.normalize_reward, device=device)
    return agent, replay


def make_update(agent: MultiTaskSAC, replay: ReplayBuffer):
    """An update whose replay grows between two of them, as it does in training."""
    replay._resize(1)

    def update() -> None:
        agent.update(replay.sample(BATCH))
        replay.size += 1

    return update


CAPTURABLE = ("ls", "si", "rlw", "dwa", "uw", "pcgrad", "graddrop", "moco", "famo", "fairgrad")


@pytest.mark.slow
@pytest.mark.parametrize("combiner", COMBINERS)
def test_updates_of_capturable_combiners_never_wait_for_the_device(combiner):
    with meta_as_cuda():
        agent, replay = make_learner("meta", combiner)
        update = make_update(agent, replay)
        assert agent.capturable == (combiner in CAPTURABLE)
        if not agent.capturable:
            with pytest.raises(HostSyncError):
                check_replayable(update, cuda_graph.EAGER_UPDATES)
            return
        agent.load_state_dict(agent.state_dict())  # after which some methods have other generators
        step = check_replayable(update, cuda_graph.EAGER_UPDATES)
        known = {generator._cdata for generator in (*agent.generators(), replay.generator)}
        assert len(step.generators) >= 2
        assert step.generators <= known


# What follows does not depend on the method. MoCo takes the task gradients, as FairGrad does, but
# not the hundreds of operations of FairGrad's solver, which take seconds on device "meta".


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_no_architecture_waits_for_the_device(architecture):
    with meta_as_cuda():
        check_replayable(make_update(*make_learner("meta", "moco", architecture)), 1)


@pytest.mark.parametrize(
    "options",
    [
        {"precision": "bf16"},
        {"normalize_reward": True},
        {"policy_average_rate": 0.1},
        {"per_task_temperature": False, "combine_temperature": True},
        {"max_grad_norm": None},
        {"scale": "norm", "max_norm": 1.0, "weighted_heads": True},
    ],
)
def test_no_option_waits_for_the_device(options):
    with meta_as_cuda():
        check_replayable(make_update(*make_learner("meta", "moco", **options)), 1)


def test_only_solvers_without_linear_algebra_are_captured():
    assert FairGrad(solver="sgd").capturable
    assert not FairGrad(solver="newton").capturable
    assert not FairGrad(solver="least_squares").capturable
    assert not GramianWeighting(lambda gramian: gramian[0]).capturable
    with meta_as_cuda(), pytest.raises(HostSyncError, match="linalg"):
        check_replayable(
            make_update(*make_learner("meta", solver="newton")), cuda_graph.EAGER_UPDATES
        )


# The stand-in itself: it must see what a real device waits for.


class WaitsInBackward(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return 2 * x

    @staticmethod
    def backward(ctx, *gradients):
        return gradients[0] if gradients[0].isfinite().all() else None


def x() -> Tensor:
    return torch.empty(3, 4, device="meta")


def in_a_backward() -> None:
    leaf = x().requires_grad_()
    torch.autograd.grad(WaitsInBackward.apply(leaf).sum(), leaf)


WAITING = {
    "item": lambda: x().sum().item(),
    "float": lambda: float(x().sum()),
    "if": lambda: 1 if x().isfinite().all() else 0,
    "tolist": lambda: x().tolist(),
    "cpu": lambda: x().cpu(),
    "to": lambda: x().to("cpu"),
    "copy to the host": lambda: torch.zeros(3, 4).copy_(x()),
    "copy from the host": lambda: x().copy_(torch.zeros(3, 4)),
    "from numpy": lambda: torch.as_tensor(np.zeros(3), device="meta"),
    "new_tensor": lambda: x().new_tensor([1.0, 2.0]),
    "a number on the host": lambda: x() + torch.tensor(1.0),
    "nonzero": lambda: x().nonzero(),
    "x[mask]": lambda: x()[x() > 0],
    "x[list]": lambda: x()[[0, 1]],
    "x[0] = number": lambda: x()[0].__setitem__(0, 1.0),
    "unique": lambda: x().unique(),
    "equal": lambda: torch.equal(x(), x()),
    "solve": lambda: torch.linalg.solve(x()[:, :3], x()),
    "solve_ex": lambda: torch.linalg.solve_ex(x()[:, :3], x()),
    "pinv": lambda: torch.linalg.pinv(x()),
    "print": lambda: str(x()),
    "synchronize": lambda: torch.cuda.synchronize(),
    "in a backward": in_a_backward,
}


@pytest.mark.parametrize("name", WAITING)
def test_waiting_is_seen(name):
    with meta_as_cuda(), NoHostSync(), pytest.raises(HostSyncError):
        WAITING[name]()


def test_what_a_graph_would_freeze_is_seen():
    net, state = nn.Linear(4, 4, device="meta"), {"steps": 1, "mean": torch.zeros(4, device="meta")}

    def counts() -> None:
        state["steps"] += 1
        state["mean"].mul_(0.9 ** state["steps"])

    def replaces() -> None:
        state["mean"] = net(state["mean"]).detach()

    with meta_as_cuda(), pytest.raises(HostSyncError, match="a number or size changes"):
        check_replayable(counts, 1)
    with meta_as_cuda(), pytest.raises(HostSyncError, match="is replaced"):
        check_replayable(replaces, 1)


# The graph.


def fill(replay: ReplayBuffer, steps: int) -> None:
    generator = np.random.default_rng(0)
    for _ in range(steps):
        replay.add(
            Transition(
                generator.normal(size=(K, OBS)),
                generator.uniform(-1, 1, (K, ACT)),
                generator.normal(size=K),
                np.zeros(K, bool),
                generator.normal(size=(K, OBS)),
            )
        )


def test_on_the_cpu_an_updater_samples_and_updates():
    learners = [make_learner("cpu") for _ in range(2)]
    for _, replay in learners:
        fill(replay, 20)
    updater = make_updater(*learners[0], BATCH)
    agent, replay = learners[1]
    for _ in range(5):
        metrics, expected = updater(), agent.update(replay.sample(BATCH))
        assert metrics.keys() == expected.keys()
        assert all(torch.equal(metrics[key], expected[key]) for key in metrics)


class Recorder:
    """Stands in for `torch.cuda` where there is none: a graph repeats the function captured in it.

    It shows the order of calls only; what capturing does to memory and streams needs a device.
    """

    def __init__(self, monkeypatch):
        self.events: list[str] = []
        recorder = self

        class Graph:
            def __init__(self):
                recorder.events.append("graph")

            def register_generator_state(self, generator):
                recorder.events.append(f"register {generator}")

            def replay(self):
                recorder.events.append("replay")

        @contextlib.contextmanager
        def capture(graph, stream, capture_error_mode):
            recorder.events.append(f"capture on {stream}")
            yield
            recorder.events.append("captured")

        @contextlib.contextmanager
        def on(stream):
            recorder.events.append(f"on {stream}")
            yield

        class Stream(str):
            def wait_stream(self, other):
                recorder.events.append(f"{self} waits for {other}")

        monkeypatch.setattr(torch.cuda, "CUDAGraph", Graph)
        monkeypatch.setattr(torch.cuda, "graph", capture)
        monkeypatch.setattr(torch.cuda, "stream", on)
        monkeypatch.setattr(torch.cuda, "Stream", lambda device: Stream("side"))
        monkeypatch.setattr(torch.cuda, "current_stream", lambda device: Stream("main"))

    def taken(self) -> list[str]:
        events, self.events[:] = list(self.events), []
        return events


def test_a_graph_is_captured_once_after_eager_updates_and_anew_after_a_load(monkeypatch):
    recorder = Recorder(monkeypatch)
    versions, generators = [0], [torch.Generator(), torch.Generator()]

    def update():
        recorder.events.append("update")
        return {"loss": torch.zeros(())}

    graphed = cuda_graph.GraphedUpdate(
        update, torch.device("cpu"), lambda: generators, lambda: versions[0]
    )
    eager = ["side waits for main", "on side", "update", "main waits for side"]
    registered = [f"register {generator}" for generator in generators]
    capture = ["graph", *registered, "capture on side", "update", "captured"]
    for _ in range(2):
        for _ in range(cuda_graph.EAGER_UPDATES):
            assert graphed().keys() == {"loss"}
            assert recorder.taken() == eager
        first = graphed()
        assert recorder.taken() == [*capture, "replay"]
        assert graphed() is first
        assert recorder.taken() == ["replay"]
        versions[0] += 1


def test_only_a_capturable_agent_on_cuda_is_captured(monkeypatch):
    Recorder(monkeypatch)
    with meta_as_cuda():
        for combiner, graph in (("fairgrad", True), ("mgda", True), ("fairgrad", False)):
            updater = make_updater(*make_learner("meta", combiner), BATCH, graph=graph)
            expected = graph and combiner == "fairgrad"
            assert isinstance(updater, cuda_graph.GraphedUpdate) == expected
        agent, replay = make_learner("meta")
        updater = make_updater(agent, replay, BATCH)
        version = updater.state_version()
        agent.load_state_dict(agent.state_dict())
        assert updater.state_version() != version
    assert not isinstance(make_updater(*make_learner("cpu"), BATCH), cuda_graph.GraphedUpdate)


@pytest.mark.gpu
@pytest.mark.parametrize("combiner", CAPTURABLE)
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_captured_update_gives_the_numbers_of_an_eager_one(combiner, precision):
    learners = [make_learner("cuda", combiner, precision=precision) for _ in range(2)]
    for _, replay in learners:
        fill(replay, 20)
    (agent, replay), (eager_agent, eager_replay) = learners
    updater = make_updater(agent, replay, BATCH)
    eager = make_updater(eager_agent, eager_replay, BATCH, graph=False)
    assert isinstance(updater, cuda_graph.GraphedUpdate)
    for _ in range(2 * cuda_graph.EAGER_UPDATES):
        fill(replay, 1)
        fill(eager_replay, 1)
        metrics, expected = updater(), eager()
        for key in metrics:
            torch.testing.assert_close(metrics[key], expected[key])
    for ours, theirs in zip(
        agent.critic.network.parameters(), eager_agent.critic.network.parameters(), strict=True
    ):
        torch.testing.assert_close(ours, theirs)
    states = (agent.generator.get_state(), eager_agent.generator.get_state())
    assert torch.equal(*states)


@pytest.mark.gpu
def test_nothing_waits_on_a_real_device():
    agent, replay = make_learner("cuda")
    fill(replay, 20)
    updater = make_updater(agent, replay, BATCH, graph=False)
    updater()
    torch.cuda.set_sync_debug_mode("error")
    try:
        updater()
    finally:
        torch.cuda.set_sync_debug_mode("default")
