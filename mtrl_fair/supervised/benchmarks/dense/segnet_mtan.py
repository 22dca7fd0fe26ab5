"""SegNet with task attention (MTAN, Liu et al. 2019), the network for NYU-v2 and Cityscapes."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

WIDTHS = (64, 128, 256, 512, 512)
BELOW = (64, *WIDTHS[:-1])
"""The number of channels that stage j of the decoder passes to stage j - 1."""
ABOVE = (*WIDTHS[1:], WIDTHS[-1])
"""The number of channels that stage j of a task's encoder passes to stage j + 1."""
STRIDE = 2 ** len(WIDTHS)


class SegNetMTAN(nn.Module):
    """Shares a SegNet among all tasks; each task selects features of its stages by attention.

    Only the attention modules are per task; the convolutions behind them are shared as well.

    Args:
        num_tasks: K, the number of tasks that have attention modules.
    """

    def __init__(self, num_tasks: int):
        super().__init__()
        if num_tasks < 1:
            raise ValueError(f"num_tasks is {num_tasks}, expected at least 1")
        self.encoder = nn.ModuleList(_convolution(a, b) for a, b in pairwise((3, *WIDTHS)))
        self.encoder_second = nn.ModuleList(_second(j, width) for j, width in enumerate(WIDTHS))
        self.decoder = nn.ModuleList(map(_convolution, WIDTHS, BELOW))
        self.decoder_second = nn.ModuleList(_second(j, width) for j, width in enumerate(BELOW))
        self.encoder_blocks = nn.ModuleList(map(_convolution, WIDTHS, ABOVE))
        self.decoder_blocks = nn.ModuleList(map(_convolution, WIDTHS, BELOW))
        self.attention = nn.ModuleList(_TaskAttention() for _ in range(num_tasks))
        initialise(self)

    def forward(self, images: Tensor) -> list[Tensor]:
        """Computes the last decoder features of each task.

        Args:
            images: [B, 3, H, W], H and W multiples of 32.

        Returns:
            K tensors [B, 64, H, W].

        Raises:
            ValueError: a side is no multiple of 32.
        """
        if images.ndim != 4 or images.shape[2] % STRIDE or images.shape[3] % STRIDE:
            raise ValueError(
                f"images have shape {list(images.shape)}, expected [B, 3, H, W] with H and W"
                f" multiples of {STRIDE}: the network halves them {len(WIDTHS)} times"
            )
        encoded, indices, bottom = self._encode(images)
        decoded = self._decode(bottom, indices)
        return [self._attend(part, encoded, decoded) for part in self.attention]

    def _encode(self, x: Tensor) -> tuple[list[tuple[Tensor, Tensor]], list[Tensor], Tensor]:
        """Returns what the decoder and the attention need of the encoder.

        Returns:
            Each stage's features before and after its second convolutions, each pooling's indices,
            and the output of the last pooling.
        """
        encoded, indices = [], []
        for first, second in zip(self.encoder, self.encoder_second, strict=True):
            before = first(x)
            after = second(before)
            encoded.append((before, after))
            x, index = functional.max_pool2d(after, 2, return_indices=True)
            indices.append(index)
        return encoded, indices, x

    def _decode(self, x: Tensor, indices: list[Tensor]) -> list[tuple[Tensor, Tensor]]:
        """Returns each stage's features, unpooled and after its second convolutions."""
        decoded = []
        stages = zip(self.decoder, self.decoder_second, indices, strict=True)
        for first, second, index in reversed(list(stages)):
            unpooled = functional.max_unpool2d(x, index, [2, 2])
            x = second(first(unpooled))
            decoded.append((unpooled, x))
        return decoded[::-1]

    def _attend(
        self,
        attention: nn.Module,
        encoded: list[tuple[Tensor, Tensor]],
        decoded: list[tuple[Tensor, Tensor]],
    ) -> Tensor:
        """Computes one task's features [B, 64, H, W], stage after stage."""
        assert isinstance(attention, _TaskAttention)
        below: list[Tensor] = []  # nothing, at the first stage
        for (before, after), attend, block in zip(
            encoded, attention.encoder, self.encoder_blocks, strict=True
        ):
            features = torch.cat((before, *below), 1)
            below = [functional.max_pool2d(block(attend(features) * after), 2)]
        (x,) = below
        stages = zip(decoded, attention.decoder, self.decoder_blocks, strict=True)
        for (unpooled, after), attend, block in reversed(list(stages)):
            x = functional.interpolate(x, scale_factor=2, mode="bilinear", align_corners=True)
            x = attend(torch.cat((unpooled, block(x)), 1)) * after
        return x


class _TaskAttention(nn.Module):
    """Holds one task's attention modules, by stage."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.ModuleList(
            _attention(width if j == 0 else 2 * width, width) for j, width in enumerate(WIDTHS)
        )
        self.decoder = nn.ModuleList(
            _attention(width + below, below) for width, below in zip(WIDTHS, BELOW, strict=True)
        )


class UnitLength(nn.Module):
    """Scales each pixel's vector in [B, C, H, W] to length 1.

    A vector shorter than 1e-12 stays as it is: at 0 the gradient is passed on unchanged.
    """

    def forward(self, vectors: Tensor) -> Tensor:
        length = torch.linalg.vector_norm(vectors, dim=1, keepdim=True)
        return vectors / length.where(length > 1e-12, 1)


def dense_head(channels: int) -> nn.Sequential:
    """Makes a task's last two convolutions, from [B, 64, H, W] to [B, channels, H, W]."""
    head = nn.Sequential(nn.Conv2d(64, 64, 3, padding=1), nn.Conv2d(64, channels, 1))
    initialise(head)
    return head


def initialise(module: nn.Module) -> None:
    """Gives all convolutions Xavier-normal weights and zero biases."""
    for part in module.modules():
        if isinstance(part, nn.Conv2d):
            nn.init.xavier_normal_(part.weight)
            assert part.bias is not None
            nn.init.zeros_(part.bias)


def _convolution(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, padding=1), nn.BatchNorm2d(outputs), nn.ReLU()
    )


def _second(stage: int, width: int) -> nn.Sequential:
    """Makes a stage's convolutions behind its first: one in the two stages next to the image, else
    two."""
    return nn.Sequential(*(_convolution(width, width) for _ in range(1 if stage <= 1 else 2)))


def _attention(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 1),
        nn.BatchNorm2d(outputs),
        nn.ReLU(),
        nn.Conv2d(outputs, outputs, 1),
        nn.BatchNorm2d(outputs),
        nn.Sigmoid(),
    )
