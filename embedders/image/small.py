"""A small residual network for pictures of 28 to 96 pixels, made to be trained from scratch on a few thousand of them."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

from embedders.image.torchvision_ops import import_torch

if TYPE_CHECKING:
    import torch
    from torch import nn

SMALL = "small"
WIDTHS = (32, 64, 128, 256)


def small() -> nn.Module:
    """(n, 3, side, side) -> (n, 256): a convolution, three residual blocks that halve the picture, the mean of what is left.

    The blocks are the basic ones of He et al. 2016 (arXiv:1512.03385); a picture of 28 x 28 costs 38 million
    multiplications, a twentieth of `resnet18` on what it would have to be enlarged to.
    """
    import_torch("The backbone 'small'")
    from torch import nn

    class Block(nn.Module):
        """(n, narrow, h, w) -> (n, wide, h / 2, w / 2)."""

        def __init__(self, narrow: int, wide: int) -> None:
            super().__init__()
            self.first = nn.Sequential(
                nn.Conv2d(narrow, wide, 3, 2, 1, bias=False), nn.BatchNorm2d(wide), nn.ReLU(inplace=True)
            )
            self.second = nn.Sequential(nn.Conv2d(wide, wide, 3, 1, 1, bias=False), nn.BatchNorm2d(wide))
            self.short = nn.Sequential(nn.Conv2d(narrow, wide, 1, 2, bias=False), nn.BatchNorm2d(wide))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            result: torch.Tensor = nn.functional.relu(self.second(self.first(x)) + self.short(x))
            return result

    first = nn.Sequential(
        nn.Conv2d(3, WIDTHS[0], 3, 1, 1, bias=False), nn.BatchNorm2d(WIDTHS[0]), nn.ReLU(inplace=True)
    )
    blocks = [Block(narrow, wide) for narrow, wide in itertools.pairwise(WIDTHS)]
    return nn.Sequential(first, *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten())
