"""The U-Net of the original: a noisy image and a time in, an image of the same shape out; nothing of diffusion.

    StemConv → DownBlock1 → DownBlock2 → Middle → UpBlock2 (skip) → UpBlock1 (skip) → HeadConv

after Ho et al. 2020 (arXiv:2006.11239, appendix B), without attention: at 28×28 a few 3×3 convolutions already see the
whole digit.
"""

import math
from collections import OrderedDict
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hwkit.language import say
from hwkit.layers import GroupNorm, Upsample


@dataclass(frozen=True)
class UNetConfig:
    """Everything that decides the network's shape."""

    base: int = 64  # channels of the first level
    multipliers: tuple[int, ...] = (1, 2)  # channels of each level, in units of base; the sides halve between levels
    blocks: int = 1  # residual blocks a level, on the way down and again on the way up
    middle_blocks: int = 1  # residual blocks at the bottom
    patch: int = 1  # 2 folds 2×2 pixels into channels, so that 28×28 is 14×14 inside: for CPUs
    channels: int = 3  # of the image, in and out

    def __post_init__(self):
        for name in ("base", "blocks", "middle_blocks", "patch", "channels"):
            if getattr(self, name) < 1:
                text = "{what}: {name} is {value}, but must be at least 1."
                raise ValueError(say(text, what="UNetConfig", name=name, value=getattr(self, name)))
        if self.base % 16:  # 8 groups of at least 2 channels: a group of one would cancel the time added to it
            text = "UNetConfig: base is {base}, but must be a multiple of 16 (for the group norms)."
            raise ValueError(say(text, base=self.base))
        if not self.multipliers or min(self.multipliers) < 1:
            text = "UNetConfig: multipliers is {multipliers}, but needs a number ≥ 1 for each level."
            raise ValueError(say(text, multipliers=self.multipliers))


class UNet(nn.Module):
    """`unet(x, t)`: images x (B, C, H, W) in about [−1, 1] and times t (B,) → a tensor of x's shape.

    ValueError unless H and W can be halved as often as the network does.
    """

    def __init__(self, config: UNetConfig = UNetConfig()):
        super().__init__()
        self.config = config
        widths = [config.base * m for m in config.multipliers]
        time_dim = 4 * config.base
        folded = config.channels * config.patch**2

        self.time = TimeEmbedding(config.base, time_dim)
        self.stem = nn.Conv2d(folded, widths[0], 3, padding=1)
        self.down = nn.ModuleList(
            DownBlock(c_in, c_out, time_dim, config.blocks, downsample=i > 0)
            for i, (c_in, c_out) in enumerate(zip([widths[0], *widths], widths, strict=False))
        )
        self.middle = ResBlocks(widths[-1], widths[-1], time_dim, config.middle_blocks)
        self.up = nn.ModuleList(
            UpBlock(c_in, c_out, time_dim, config.blocks, upsample=i < len(widths) - 1)
            for i, (c_in, c_out) in enumerate(zip(widths[::-1], [*widths[-2::-1], widths[0]], strict=True))
        )
        last = zero(nn.Conv2d(widths[0], folded, 3, padding=1))  # so a new network predicts 0 everywhere
        self.head = nn.Sequential(OrderedDict(norm=GroupNorm(8, widths[0]), silu=nn.SiLU(), conv=last))
        self.to(memory_format=torch.channels_last)

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        divisor = self.config.patch * 2 ** (len(self.config.multipliers) - 1)
        if x.shape[-1] % divisor or x.shape[-2] % divisor:
            text = "UNet: the image sides {sides} must be multiples of {divisor}."
            raise ValueError(say(text, sides=tuple(x.shape[-2:]), divisor=divisor))
        emb = self.time(t)  # (B, 4·base)
        h = F.pixel_unshuffle(x, self.config.patch) if self.config.patch > 1 else x  # (B, C·p², H/p, W/p)
        h = self.stem(h)
        skips = []
        for block in self.down:
            h = block(h, emb)
            skips.append(h)
        h = self.middle(h, emb)
        for block in self.up:
            h = block(h, skips.pop(), emb)
        h = self.head(h)
        return F.pixel_shuffle(h, self.config.patch) if self.config.patch > 1 else h


class TimeEmbedding(nn.Module):
    """t (B,) → (B, dim_out): sines and cosines of t (Vaswani et al. 2017, §3.5), then a two-layer perceptron."""

    def __init__(self, dim: int, dim_out: int):
        super().__init__()
        frequencies = torch.exp(-math.log(10_000) * torch.arange(dim // 2) / (dim // 2))
        self.register_buffer("frequencies", frequencies, persistent=False)
        self.mlp = nn.Sequential(nn.Linear(dim, dim_out), nn.SiLU(), nn.Linear(dim_out, dim_out), nn.SiLU())

    def forward(self, t: Tensor) -> Tensor:
        angles = t.float()[:, None] * self.frequencies  # (B, dim/2)
        return self.mlp(torch.cat([angles.sin(), angles.cos()], dim=1))


class ResBlock(nn.Module):
    """GroupNorm → SiLU → 3×3 convolution, twice, with the time added between; plus the input."""

    def __init__(self, c_in: int, c_out: int, time_dim: int):
        super().__init__()
        self.norm1 = GroupNorm(8, c_in)
        self.conv1 = nn.Conv2d(c_in, c_out, 3, padding=1)
        self.time = nn.Linear(time_dim, c_out)
        self.norm2 = GroupNorm(8, c_out)
        self.conv2 = zero(nn.Conv2d(c_out, c_out, 3, padding=1))
        self.skip = nn.Conv2d(c_in, c_out, 1) if c_in != c_out else nn.Identity()

    def forward(self, x: Tensor, emb: Tensor) -> Tensor:
        h = self.conv1(F.silu(self.norm1(x)))
        h = h + self.time(emb)[:, :, None, None]
        h = self.conv2(F.silu(self.norm2(h)))
        return self.skip(x) + h


class ResBlocks(nn.Module):
    """`count` residual blocks; the first changes the width from c_in to c_out."""

    def __init__(self, c_in: int, c_out: int, time_dim: int, count: int):
        super().__init__()
        self.blocks = nn.ModuleList(ResBlock(c_in if i == 0 else c_out, c_out, time_dim) for i in range(count))

    def forward(self, x: Tensor, emb: Tensor) -> Tensor:
        for block in self.blocks:
            x = block(x, emb)
        return x


class DownBlock(nn.Module):
    """Halves the sides (all levels but the first), then residual blocks c_in → c_out."""

    def __init__(self, c_in: int, c_out: int, time_dim: int, count: int, downsample: bool):
        super().__init__()
        self.downsample = nn.Conv2d(c_in, c_in, 3, stride=2, padding=1) if downsample else nn.Identity()
        self.blocks = ResBlocks(c_in, c_out, time_dim, count)

    def forward(self, x: Tensor, emb: Tensor) -> Tensor:
        return self.blocks(self.downsample(x), emb)


class UpBlock(nn.Module):
    """Joins the skip of its level, residual blocks 2·c_in → c_in, then doubles the sides (all but the last level)."""

    def __init__(self, c_in: int, c_out: int, time_dim: int, count: int, upsample: bool):
        super().__init__()
        self.blocks = ResBlocks(2 * c_in, c_in, time_dim, count)
        self.upsample = Upsample(c_in, c_out) if upsample else nn.Identity()

    def forward(self, x: Tensor, skip: Tensor, emb: Tensor) -> Tensor:
        return self.upsample(self.blocks(torch.cat([x, skip], dim=1), emb))


def zero(layer: nn.Conv2d) -> nn.Conv2d:
    """The layer with its weights set to 0, so that what it ends starts as the identity (Ho et al. 2020, appendix B)."""
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer
