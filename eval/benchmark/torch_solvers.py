"""What ATOM and DiMP learn with, in PyTorch as the reference implementations have it.

DiMP's steepest descent with its derivatives written out, Gauss-Newton by autograd; `torch_operators` has both with
`torch.func`, which takes the residuals once more in every step.
"""

from collections.abc import Callable
from typing import Any

from eval.benchmark import torch_operators
from eval.benchmark.torch_layers import Tensor
from trackers.nets.dimp_classifier import BIN_SIZE, FILTER_SIZE, MIN_CURVATURE, MIN_FILTER_REG, STRIDE


def optimize(
    optimizer: Any, filter: Tensor, features: Tensor, boxes: Tensor, sample_weights: Tensor, steps: int
) -> Tensor:
    """`trackers.nets.dimp_classifier.optimize_filter` with its derivatives written out, as pytracking has them."""
    from torch.nn.grad import conv2d_weight

    label, mask, weight = loss_maps(optimizer, boxes, features.shape[2] + 1)
    weight = weight * sample_weights.sqrt()[:, None, None]
    penalty = float(optimizer["filter_reg"].abs().clamp(min=MIN_FILTER_REG)) ** 2
    step_length = float(optimizer["log_step_length"].exp())
    even, odd = 0.5 * (1 - mask), 0.5 * (1 + mask)
    for _ in range(steps):
        scores = torch_operators.correlation(features, filter)
        slope = weight * (even * scores.sign() + odd)
        errors = weight * (even * scores.abs() + odd * scores - label)
        pulled = conv2d_weight(features, filter.shape, (slope * errors)[:, None], padding=FILTER_SIZE // 2)
        gradient = pulled + penalty * filter
        squared = (gradient**2).sum()
        curvature = ((slope * torch_operators.correlation(features, gradient)) ** 2).sum() + penalty * squared
        filter = filter - step_length * squared / curvature.clamp(min=MIN_CURVATURE) * gradient
    return filter


def loss_maps(optimizer: Any, boxes: Tensor, cells: int) -> tuple[Tensor, Tensor, Tensor]:
    """Label, target mask and spatial weight `[N, cells, cells]` of boxes `[N, 4]`."""
    import torch

    middle = (boxes[:, :2] + boxes[:, 2:] / 2) / STRIDE
    x, y = (torch.arange(cells) - middle[:, axis, None] for axis in (0, 1))
    position = (y[:, :, None] ** 2 + x[:, None, :] ** 2).sqrt() / BIN_SIZE
    last = len(optimizer["label_bins"]) - 1
    position = position.clamp(max=last)
    below = position.long().clamp(max=last - 1)
    share = position - below
    label, mask, weight = (
        bins[below] * (1 - share) + bins[below + 1] * share
        for bins in (optimizer[name] for name in ("label_bins", "mask_bins", "spatial_bins"))
    )
    return label, mask.sigmoid(), weight


def gauss_newton(
    residuals: Callable[..., tuple[Tensor, ...]],
    start: tuple[Tensor, ...],
    cg_steps: int,
    *,
    polak_ribiere: bool = False,
    precondition: Callable[[tuple], tuple] | None = None,
) -> tuple[Tensor, ...]:
    """One step of `ops.least_squares.gauss_newton`; J is the derivative of J^T, autograd's of autograd's."""
    import torch

    unknowns = tuple(leaf.detach().requires_grad_() for leaf in start)
    with torch.enable_grad():
        errors = residuals(*unknowns)
        probe = tuple(torch.zeros_like(error, requires_grad=True) for error in errors)
        pulled = torch.autograd.grad(errors, unknowns, probe, create_graph=True)

    def transposed(vectors):
        return torch.autograd.grad(errors, unknowns, vectors, retain_graph=True)

    def normal(direction):
        return transposed(torch.autograd.grad(pulled, probe, direction, retain_graph=True))

    b = tuple(-leaf for leaf in transposed(tuple(error.detach() for error in errors)))
    change = conjugate_gradient(normal, b, cg_steps, polak_ribiere=polak_ribiere, precondition=precondition)
    return tuple(leaf + more for leaf, more in zip(start, change))


def conjugate_gradient(
    matvec: Callable[[tuple], tuple],
    b: tuple[Tensor, ...],
    steps: int,
    *,
    polak_ribiere: bool = False,
    precondition: Callable[[tuple], tuple] | None = None,
) -> tuple[Tensor, ...]:
    """`ops.least_squares.conjugate_gradient` from 0."""
    import torch

    def inner(one, other):
        return sum((x * y).sum() for x, y in zip(one, other))

    def add(one, factor, other):
        return tuple(x + factor * y for x, y in zip(one, other))

    x = direction = previous = tuple(torch.zeros_like(leaf) for leaf in b)
    residual, previous_rho = b, 1.0
    for _ in range(steps):
        z = precondition(residual) if precondition else residual
        rho = inner(residual, z)
        if rho == 0:
            break
        overlap = inner(previous, z) if polak_ribiere else 0
        beta = max(float((rho - overlap) / previous_rho), 0.0)
        direction = add(z, beta, direction)
        image = matvec(direction)
        alpha = rho / inner(direction, image)
        previous, previous_rho = residual, rho
        x, residual = add(x, alpha, direction), add(residual, -alpha, image)
    return x
