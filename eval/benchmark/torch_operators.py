"""The operators of `eval.benchmark.operators` written in PyTorch, which is imported only when they are asked for.

Each takes tensors in PyTorch's layout, channels before rows and columns, and computes the same values. PyTorch has no
PrRoI pooling: here it is the same separable integral as in `ops.prroi_pool`, and the solvers are the same steps with
`torch.func` for Jacobians, as a user of PyTorch would write them.
"""

from typing import Any

Tensor = Any


def correlation(features: Tensor, filter: Tensor) -> Tensor:
    """`[N, C, h, w]`, `[1, C, kh, kw]` -> `[N, h + 1, w + 1]` for even kernels."""
    from torch.nn.functional import conv2d

    return conv2d(features, filter, padding=(filter.shape[2] // 2, filter.shape[3] // 2))[:, 0]


def cross_correlation(search: Tensor, kernels: Tensor) -> Tensor:
    """`[1, C, H, W]`, `[N, C, h, w]` -> `[N, H - h + 1, W - w + 1]`."""
    from torch.nn.functional import conv2d

    return conv2d(search, kernels)[0]


def depthwise_correlation(search: Tensor, template: Tensor) -> Tensor:
    """`[1, C, H, W]`, `[1, C, h, w]` -> `[C, H - h + 1, W - w + 1]`."""
    from torch.nn.functional import conv2d

    return conv2d(search, template.transpose(0, 1), groups=search.shape[1])[0]


def prroi_pooling(features: Tensor, boxes: Tensor, bins: int, spatial_scale: float) -> Tensor:
    """`[1, C, h, w]`, corners `[P, 4]` -> `[P, C, bins, bins]`."""
    import torch

    def weights(start, stop, cells):
        share = torch.arange(bins + 1, dtype=boxes.dtype, device=boxes.device) / bins
        edges = start[:, None] + (stop - start)[:, None] * share
        low, high = edges[:, :-1, None], edges[:, 1:, None]
        place = torch.arange(cells, dtype=boxes.dtype, device=boxes.device)
        total = 0
        for least, greatest, sign in ((-1, 0, 1), (0, 1, -1)):  # the rising and the falling half of a hat
            a, b = (torch.clamp(edge - place, least, greatest) for edge in (low, high))
            total = total + (b - a) * (1 + sign * (b + a) / 2)
        return total / (high - low)

    x1, y1, x2, y2 = (boxes * spatial_scale).unbind(1)
    (channels, height, width), count = features.shape[1:], len(boxes)
    rows, columns = weights(y1, y2, height), weights(x1, x2, width)
    # Flat products with the channels last: einsums copy the strips and take half as long again.
    strips = rows.flatten(0, 1) @ features[0].permute(1, 2, 0).reshape(height, width * channels)
    columns = columns[:, None].expand(count, bins, bins, width).reshape(count * bins, bins, width)
    pooled = torch.bmm(columns, strips.reshape(count * bins, width, channels))
    return pooled.reshape(count, bins, bins, channels).permute(0, 3, 1, 2)


def iou_prediction(
    boxes: Tensor,
    modulation: tuple,
    features: tuple,
    layers: tuple,
    last: tuple,
    bins: tuple,
    scales: tuple,
    epsilon: float,
) -> Tensor:
    """Corners `[P, 4]` -> overlaps `[P]`; a layer is weight, bias, and mean, variance, scale and offset of its norm."""
    import torch
    from torch.nn.functional import batch_norm, linear, relu

    hidden = []
    for vector, maps, (weight, bias, *norm), size, scale in zip(modulation, features, layers, bins, scales):
        pooled = prroi_pooling(maps, boxes, size, scale) * vector[None, :, None, None]
        flat = pooled.permute(0, 2, 3, 1).flatten(1)  # the order of the weights: rows, columns, channels
        hidden.append(relu(batch_norm(linear(flat, weight, bias), *norm, eps=epsilon)))
    return linear(torch.cat(hidden, 1), *last)[:, 0]


def steepest_descent(residuals: Any, start: Tensor, step_length: float, steps: int) -> Tensor:
    """`ops.least_squares.steepest_descent` of `residuals(filter) -> tuple`."""
    from torch.func import jvp, vjp

    filter = start
    for _ in range(steps):
        errors, transpose = vjp(residuals, filter)
        (gradient,) = transpose(errors)
        image = jvp(residuals, (filter,), (gradient,))[1]
        curvature = sum((part**2).sum() for part in image).clamp(min=1e-8)
        filter = filter - step_length * (gradient**2).sum() / curvature * gradient
    return filter


def gauss_newton(residuals: Any, start: Tensor, cg_steps: int) -> Tensor:
    """One step of `ops.least_squares.gauss_newton` with Polak-Ribiere conjugate gradient."""
    import torch
    from torch.func import jvp, vjp

    errors, transpose = vjp(residuals, start)
    residual = -transpose(errors)[0]
    x = direction = previous = torch.zeros_like(start)
    previous_rho = torch.ones_like(start.sum())
    for _ in range(cg_steps):
        rho = (residual**2).sum()
        beta = ((rho - (previous * residual).sum()) / previous_rho).clamp(min=0)
        direction = residual + beta * direction
        image = transpose(jvp(residuals, (start,), (direction,))[1])[0]
        alpha = rho / (direction * image).sum()
        previous, previous_rho = residual, rho
        x, residual = x + alpha * direction, residual - alpha * image
    return start + x


def dimp_residuals(features: Tensor, label: Tensor, mask: Tensor, weight: Tensor, regularization: Tensor) -> Any:
    """Of a filter `[1, C, 4, 4]`, as `trackers.nets.dimp_classifier.residuals`."""

    def residuals(filter):
        scores = correlation(features, filter)
        activated = 0.5 * (1 - mask) * scores.abs() + 0.5 * (1 + mask) * scores
        return weight * (activated - label), regularization * filter

    return residuals


def atom_residuals(features: Tensor, labels: Tensor, weights: Tensor, filter_reg: Tensor, alpha: Tensor) -> Any:
    """Of a filter `[1, D, k, k]`, as `trackers.atom.filter_residuals`."""
    from torch.nn.functional import elu, relu

    def residuals(filter):
        scores = correlation(features, filter)[:, : features.shape[2], : features.shape[3]]
        activated = relu(scores) + float(alpha) * elu(-relu(-scores) / float(alpha))
        return weights.sqrt()[:, None, None] * (activated - labels), filter_reg.sqrt() * filter

    return residuals
