"""Crops of frames and the samples of frame 1 in PyTorch: for ATOM and DiMP in `torch_online`."""

import math

import numpy as np

from eval.benchmark.torch_layers import Tensor
from ops.augment import Transform
from trackers.parts import first_frame
from trackers.parts.first_frame import AugmentationConfig
from trackers.parts.search_region import RegionConfig

Pair = np.ndarray  # [2] (y, x) or (height, width), float64


def window(image: Tensor, center: Pair, scale: float, side: int) -> Tensor:
    """`[1, 3, side, side]` float: every `scale`-th pixel of the frame `[H, W, 3]`, bilinear, the border replicated."""
    places, cut = [], []
    for middle, length in zip(center, image.shape[:2]):
        place = np.clip(middle + (np.arange(side) - (side - 1) / 2) * scale, 0, length - 1)
        first = min(int(place[0]), length - 2)
        last = min(max(math.ceil(place[-1]), first + 1), length - 1)
        places.append(place - first)
        cut.append(slice(first, last + 1))
    return _sample(image[cut[0], cut[1]].permute(2, 0, 1)[None].float(), *np.meshgrid(*places, indexing="ij"))


def _sample(source: Tensor, y: np.ndarray, x: np.ndarray) -> Tensor:
    """`[1, C, H, W]` at points y, x `[h, w]`, the border replicated."""
    import torch
    from torch.nn.functional import grid_sample

    height, width = source.shape[2:]
    grid = np.stack([2 * x / (width - 1) - 1, 2 * y / (height - 1) - 1], -1).astype(np.float32)
    return grid_sample(source, torch.from_numpy(grid)[None], padding_mode="border", align_corners=True)


def augmented(
    image: Tensor, center: Pair, scale: float, region: RegionConfig, config: AugmentationConfig
) -> tuple[Tensor, np.ndarray]:
    """The crops of frame 1 `[N, 3, side, side]`, and where each moves the target, `[N, 2]` (y, x) crop pixels."""
    import torch

    side = region.image_size
    patch = window(image, center, scale, config.expanded_size)
    crops, shifts = [], []
    for transform in first_frame.transforms(config):
        if transform.kind == "shift":
            shift = [int(part * side / 2) for part in transform.amount]
        elif transform.kind == "identity":
            shift = [0, 0]
        else:
            shift = [int(drawn * side * config.random_shift) for drawn in torch.rand(2) - 0.5]
        crops.append(_transformed(patch, transform, shift, side))
        shifts.append(shift)
    return torch.cat(crops), np.array(shifts, np.float32)


def _transformed(patch: Tensor, transform: Transform, shift: list[int], side: int) -> Tensor:
    """The middle `[1, 3, side, side]` of the patch `[1, 3, n, n]` under the transform, its content moved by `shift`."""
    import torch
    from torch.nn.functional import conv2d

    size = patch.shape[2]
    rows, columns = (np.clip(np.arange(side) - (side - size) // 2 - part, 0, size - 1) for part in shift)
    if transform.kind == "rotate":
        angle = math.radians(transform.amount[0])
        y, x = np.meshgrid(rows - (size - 1) / 2, columns - (size - 1) / 2, indexing="ij")
        source_y = math.sin(angle) * x + math.cos(angle) * y + (size - 1) / 2
        return _sample(patch, source_y, math.cos(angle) * x - math.sin(angle) * y + (size - 1) / 2)
    if transform.kind == "flip":
        columns = size - 1 - columns
    if transform.kind == "blur":
        for axis, sigma in enumerate(transform.amount):
            radius = math.ceil(2 * sigma)
            kernel = torch.exp(-((torch.arange(-radius, radius + 1) / sigma) ** 2) / 2)
            shape, padding = [1, 1, 1, 1], [0, 0]
            shape[2 + axis], padding[axis] = len(kernel), radius
            patch = conv2d(patch.transpose(0, 1), (kernel / kernel.sum()).reshape(shape), padding=padding)
            patch = patch.transpose(0, 1)
    return patch[:, :, torch.from_numpy(rows)][:, :, :, torch.from_numpy(columns)]


def with_dropout(features: Tensor, config: AugmentationConfig) -> tuple[Tensor, list[int]]:
    """`trackers.parts.first_frame.with_dropout` of `[N, C, h, w]`."""
    import torch
    from torch.nn.functional import dropout2d

    copies = [dropout2d(features[:1], config.dropout_rate) for _ in range(config.dropout_copies)]
    return torch.cat([features, *copies]), [*range(len(features)), *[0] * config.dropout_copies]
