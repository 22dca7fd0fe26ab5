import pytest
import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812

from mtrl_fair.supervised.benchmarks.dense.segnet_mtan import SegNetMTAN, UnitLength, dense_head

K = 2


@pytest.fixture(scope="module")
def trunk() -> SegNetMTAN:
    """In float64, with random biases and batch norms, so that nothing is left out unnoticed."""
    torch.manual_seed(0)
    network = SegNetMTAN(K).double()
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.ndim == 1:
                parameter.uniform_(0.5, 1.5)
    return network


def images(height: int = 64, width: int = 32) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.rand(2, 3, height, width, generator=generator, dtype=torch.float64)


def c(block, x):
    """Conv3×3 + BN + ReLU."""
    convolution, norm = block[0], block[1]
    x = F.conv2d(x, convolution.weight, convolution.bias, padding=1)
    return normalised(norm, x).clamp(min=0)


def a(block, x):
    """Conv1×1 + BN + ReLU + Conv1×1 + BN + Sigmoid."""
    x = normalised(block[1], F.conv2d(x, block[0].weight, block[0].bias)).clamp(min=0)
    return 1 / (1 + torch.exp(-normalised(block[4], F.conv2d(x, block[3].weight, block[3].bias))))


def normalised(norm, x):
    mean = x.mean((0, 2, 3), keepdim=True)
    variance = (x - mean).square().mean((0, 2, 3), keepdim=True)
    scaled = (x - mean) / (variance + norm.eps).sqrt()
    return scaled * norm.weight.view(1, -1, 1, 1) + norm.bias.view(1, -1, 1, 1)


def windows(x):
    """[B, C, h, w, 4]: the pixels of each 2×2 window."""
    return x.unfold(2, 2, 2).unfold(3, 2, 2).flatten(-2)


def pool(x):
    """The maxima, and where they are: one pixel per window, the first of equals."""
    value = windows(x).amax(-1)
    equal = windows(x) == value[..., None]
    return value, equal & (equal.cumsum(-1) == 1)


def unpool(x, place):
    filled = x[..., None] * place
    batch, channels, height, width, _ = filled.shape
    rows = filled.view(batch, channels, height, width, 2, 2).permute(0, 1, 2, 4, 3, 5)
    return rows.reshape(batch, channels, 2 * height, 2 * width)


def seconds(block, x):
    for part in block:
        x = c(part, x)
    return x


def restated(net, x, task):
    """The features of one task, line by line from the description of the network."""
    e, e2, place = {}, {}, {}
    for i in range(5):
        e[i] = c(net.encoder[i], x)
        e2[i] = seconds(net.encoder_second[i], e[i])
        x, place[i] = pool(e2[i])
    u, d2 = {}, {}
    for i in (4, 3, 2, 1, 0):
        u[i] = unpool(x, place[i])
        x = d2[i] = seconds(net.decoder_second[i], c(net.decoder[i], u[i]))
    attention = net.attention[task]
    o, _ = pool(c(net.encoder_blocks[0], a(attention.encoder[0], e[0]) * e2[0]))
    for j in (1, 2, 3, 4):
        mask = a(attention.encoder[j], torch.cat((e[j], o), 1))
        o, _ = pool(c(net.encoder_blocks[j], mask * e2[j]))
    for j in (4, 3, 2, 1, 0):
        up = F.interpolate(o, scale_factor=2, mode="bilinear", align_corners=True)
        p = c(net.decoder_blocks[j], up)
        o = a(attention.decoder[j], torch.cat((u[j], p), 1)) * d2[j]
    return o


@pytest.mark.slow
def test_features_are_those_of_the_description(trunk):
    x = images()
    with torch.no_grad():
        features = trunk(x)
        assert [tuple(part.shape) for part in features] == [(2, 64, 64, 32)] * K
        for task in range(K):
            torch.testing.assert_close(features[task], restated(trunk, x, task))
    assert not torch.allclose(features[0], features[1])


def test_second_convolutions_are_one_in_the_two_outer_stages_and_two_in_the_others(trunk):
    assert [len(block) for block in trunk.encoder_second] == [1, 1, 2, 2, 2]
    assert [len(block) for block in trunk.decoder_second] == [1, 1, 2, 2, 2]


@pytest.mark.parametrize("num_tasks", [1, 3])
def test_parameters_as_counted_by_hand(num_tasks):
    def c(a, b):
        return 9 * a * b + b + 2 * b

    def a(a, b, c):
        return a * b + b + 2 * b + b * c + c + 2 * c

    encoder = c(3, 64) + c(64, 128) + c(128, 256) + c(256, 512) + c(512, 512)
    encoder_second = c(64, 64) + c(128, 128) + 2 * (c(256, 256) + c(512, 512) + c(512, 512))
    decoder = c(64, 64) + c(128, 64) + c(256, 128) + c(512, 256) + c(512, 512)
    decoder_second = c(64, 64) + c(64, 64) + 2 * (c(128, 128) + c(256, 256) + c(512, 512))
    blocks = c(64, 128) + c(128, 256) + c(256, 512) + c(512, 512) + c(512, 512) + decoder
    encoder_attention = a(64, 64, 64) + a(256, 128, 128) + a(512, 256, 256) + 2 * a(1024, 512, 512)
    decoder_attention = (
        a(128, 64, 64)
        + a(128 + 64, 64, 64)
        + a(256 + 128, 128, 128)
        + a(512 + 256, 256, 256)
        + a(512 + 512, 512, 512)
    )
    expected = encoder + encoder_second + decoder + decoder_second + blocks
    expected += num_tasks * (encoder_attention + decoder_attention)
    network = SegNetMTAN(num_tasks)
    assert sum(parameter.numel() for parameter in network.parameters()) == expected


@pytest.mark.slow
def test_attention_has_gradient_from_its_task_only_and_the_rest_from_every_task(trunk):
    # With the batch's own statistics, biases before a batch norm have no gradient: weights do.
    shared = [
        parameter
        for name, parameter in trunk.named_parameters()
        if not name.startswith("attention") and parameter.ndim == 4
    ]
    own = [[p for p in part.parameters() if p.ndim == 4] for part in trunk.attention]
    assert len(shared) == 5 + 8 + 5 + 8 + 5 + 5
    assert [len(part) for part in own] == [20] * K
    for task, part in enumerate(trunk(images())):
        weights = shared + own[task] + own[1 - task]
        gradients = torch.autograd.grad(
            part.square().sum(), weights, allow_unused=True, retain_graph=True
        )
        used = len(shared) + len(own[task])
        assert all(gradient.abs().max() > 1e-9 for gradient in gradients[:used])
        assert all(gradient is None for gradient in gradients[used:])


def test_convolutions_are_xavier_normal_without_bias():
    torch.manual_seed(0)
    for network in (SegNetMTAN(1), dense_head(3)):
        for part in network.modules():
            if isinstance(part, nn.Conv2d):
                assert not part.bias.any()
                area = part.kernel_size[0] * part.kernel_size[1]
                expected = (2 / (area * (part.in_channels + part.out_channels))) ** 0.5
                slack = 5 / (2 * part.weight.numel()) ** 0.5
                assert abs(part.weight.std() / expected - 1) < slack


def test_a_head_is_two_convolutions_with_nothing_between():
    head = dense_head(13).double()
    x = torch.randn(2, 64, 5, 6, dtype=torch.float64)
    between = F.conv2d(x, head[0].weight, head[0].bias, padding=1)
    assert len(head) == 2
    assert head[0].weight.shape == (64, 64, 3, 3)
    expected = torch.einsum("oc,bchw->bohw", head[1].weight[:, :, 0, 0], between)
    torch.testing.assert_close(head(x), expected + head[1].bias.view(1, -1, 1, 1))


def test_unit_length_of_any_vector_and_safe_at_zero():
    x = torch.randn(2, 3, 4, 5, dtype=torch.float64) * 10
    x[:, :, 0, 0] = 0
    x[:, :, 1, 1] = 1e-40
    x[:, :, 3, 3] *= 1e-9
    x.requires_grad_()
    unit = UnitLength()(x)
    length = x.square().sum(1, keepdim=True).sqrt()
    torch.testing.assert_close(unit[..., 2:, :], (x / length)[..., 2:, :])
    assert not unit[:, :, 0, 0].any()
    (gradient,) = torch.autograd.grad(unit.sum(), x)
    assert gradient.isfinite().all()
    assert (gradient[:, :, 0, 0] == 1).all()
    assert (gradient[:, :, 1, 1] == 1).all()


@pytest.mark.parametrize("shape", [(2, 3, 33, 64), (2, 3, 64, 48), (3, 32, 32)])
def test_sides_must_be_multiples_of_32(trunk, shape):
    with pytest.raises(ValueError, match="multiples of 32"):
        trunk(torch.zeros(shape))


def test_no_task_is_refused():
    with pytest.raises(ValueError, match="num_tasks is 0, expected at least 1"):
        SegNetMTAN(0)
