"""What is laid over a score map or compared with one: labels, windows, interpolation, activation."""

import jax
import jax.numpy as jnp
import numpy as np

Array = jax.Array


def label_center(offset: Array, feature_size: int, kernel_size: int) -> Array:
    """Where a label peaks, `[..., 2]` cells from the middle of the feature map.

    offset: `[..., 2]` (y, x) of the target from the middle of the crop, as a fraction of the crop's side. An even
    kernel shifts scores by half a cell.
    """
    return feature_size * offset + 0.5 * ((kernel_size + 1) % 2)


def gaussian_label(center: Array, sigma: Array | float, feature_size: int, *, extra_cells: int = 0) -> Array:
    """exp(-|k - center|^2 / (2 sigma^2)) on the cells k = -(n - 1) / 2, ..., (n - 1) / 2 of a feature map of side n.

    center: `[2]` (y, x) cells from the middle (see `label_center`). sigma: `[]` or `[2]` cells. extra_cells: cells
    added after the last one (the scores of an even kernel have one more). Returns `[n + extra, n + extra]` in (0, 1].
    """
    cells = jnp.arange(feature_size + extra_cells, dtype=center.dtype) - (feature_size - 1) / 2
    offset = (cells[None] - center[:, None]) / jnp.broadcast_to(jnp.asarray(sigma, center.dtype), (2,))[:, None]
    profile = jnp.exp(-(offset**2) / 2)
    return jnp.outer(profile[0], profile[1])


def disk_label(size: int, radius: float, *, metric: str = "city_block") -> Array:
    """SiamFC's label (Bertinetto et al. 2016, Eq. 4): 1 within `radius` cells of the middle, else 0, `[size, size]`.

    metric: "city_block" as siamfc-pytorch measures, "euclidean" as the original does; a radius of 2 cells gives the
    same 13 cells in odd maps. float32. ValueError for another metric.
    """
    if metric not in ("city_block", "euclidean"):
        raise ValueError(f"unknown metric {metric!r}; choose city_block or euclidean")
    offset = np.abs(np.arange(size) - (size - 1) / 2)
    distance = np.hypot(offset[:, None], offset) if metric == "euclidean" else offset[:, None] + offset
    return jnp.asarray(distance <= radius, jnp.float32)


def overlap_label(size: Array, cells: int, stride: float, threshold: float) -> Array:
    """MemTrack's label: 1 where the target's box, moved there from the middle, keeps an IoU > threshold, else 0.

    size: `[2]` (h, w) pixels of the crop, > 0. cells: of a side of the response, `stride` pixels apart. Returns
    `[cells, cells]` of size's dtype; the middle of an odd number of cells is always 1 (Yang and Chan 2018, Sec. 4).
    """
    offset = jnp.abs(jnp.arange(cells, dtype=size.dtype) - (cells - 1) / 2) * stride
    kept = jax.nn.relu(1 - offset[None] / size[:, None])  # of each side
    both = jnp.outer(kept[0], kept[1])
    return (both > threshold * (2 - both)).astype(size.dtype)


def hann_window(size: int, *, centered: bool = True) -> Array:
    """Hann window `[size, size]` without zeros at its border, float32 in (0, 1].

    centered: the maximum is in the middle, 0.5 (1 - cos(2 pi n / (size + 1))), n = 1..size; else it is at index 0 and
    the window is wrapped around, 0.5 (1 + cos(2 pi n / (size + 2))), n = 0..size // 2 and back.
    """
    if centered:
        profile = 0.5 * (1 - np.cos(2 * np.pi * np.arange(1, size + 1) / (size + 1)))
    else:
        half = 0.5 * (1 + np.cos(2 * np.pi * np.arange(size // 2 + 1) / (size + 2)))
        profile = np.concatenate([half, half[1 : size - size // 2][::-1]])
    return jnp.asarray(np.outer(profile, profile), jnp.float32)


def tukey_window(size: int, alpha: float | Array) -> Array:
    """Tukey window `[size]` in 0..1: flat, with cosine flanks that take the share `alpha` of it (1: Hann's window).

    The first and the last element are 0 where alpha > 0. float32, or as `alpha`.
    """
    last = size - 1
    distance = jnp.asarray(np.minimum(np.arange(size), last - np.arange(size)), jnp.result_type(alpha, jnp.float32))
    flank = alpha * last / 2
    rising = 0.5 * (1 - jnp.cos(jnp.pi * distance / jnp.where(flank > 0, flank, 1)))
    return jnp.where(distance < flank, rising, 1)


def fourier_interpolate(scores: Array, kernel_size: int, out_size: int, *, centered: bool = True) -> Array:
    """ATOM's interpolation of raw scores `[n, n]` to `[out_size, out_size]`: M scores M^T, M of `fourier_matrix`."""
    return _separable(fourier_matrix(scores.shape[0], kernel_size, out_size, centered=centered), scores)


def fourier_matrix(size: int, kernel_size: int, out_size: int, *, centered: bool = True) -> np.ndarray:
    """`[out_size, size]` float64, the FFT of `fourier_interpolate` written out:

    M[u, i] = (1/n) sum of cos(2 pi k t / n) over k = -(n // 2)..n // 2, t = u n / U - i + (n - kernel_size mod 2) / 2.
    Even n counts the highest frequency twice, as pytracking does: then it does not pass through the samples.
    centered: zero displacement is at index `out_size // 2`, else at index 0.
    """
    position = np.arange(out_size) - (out_size // 2 if centered else 0)
    distance = position[:, None] * size / out_size - np.arange(size)[None] + (size - kernel_size % 2) / 2
    frequency = np.arange(-(size // 2), size // 2 + 1)
    return np.cos(2 * np.pi / size * distance[..., None] * frequency).sum(-1) / size


def bicubic_resize(scores: Array, out_size: int) -> Array:
    """`[n, n]` -> `[out_size, out_size]`, as OpenCV's INTER_CUBIC: cubic convolution (Keys 1981) with a = -0.75.

    Cell u of the output lies at (u + 1/2) n / out_size - 1/2; cells beyond the border repeat it.
    """
    size = scores.shape[0]
    position = (np.arange(out_size) + 0.5) * (size / out_size) - 0.5
    floor = np.floor(position).astype(int)
    matrix = np.zeros((out_size, size))
    for tap in (-1, 0, 1, 2):
        distance = np.abs(position - (floor + tap))
        near = (1.25 * distance - 2.25) * distance**2 + 1
        far = -0.75 * (((distance - 5) * distance + 8) * distance - 4)
        np.add.at(matrix, (np.arange(out_size), np.clip(floor + tap, 0, size - 1)), np.where(distance <= 1, near, far))
    return _separable(matrix, scores)


def vertex(before: Array, at: Array, after: Array) -> Array:
    """Where the parabola through three neighbors has its maximum, in -0.5..0.5 of their distance from the middle one.

    before, at, after: `[...]`. 0 where the parabola has none.
    """
    curvature = before - 2 * at + after
    curved = curvature < 0
    return jnp.where(curved, jnp.clip(0.5 * (before - after) / jnp.where(curved, curvature, 1), -0.5, 0.5), 0)


def _separable(matrix: np.ndarray, scores: Array) -> Array:
    """`matrix scores matrix^T` in full precision."""
    exact = jax.lax.Precision.HIGHEST
    matrix = jnp.asarray(matrix, scores.dtype)
    return jnp.matmul(jnp.matmul(matrix, scores, precision=exact), matrix.T, precision=exact)


def mlu(x: Array, alpha: float | Array) -> Array:
    """ATOM's output activation (Danelljan et al. 2019, Sec. 4.1): x for x >= 0, alpha (exp(x / alpha) - 1) below."""
    return jnp.where(x >= 0, x, alpha * jnp.expm1(jnp.minimum(x, 0) / alpha))
