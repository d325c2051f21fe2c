"""A fixed filter bank built by code: features for a tracker that needs no trained weights.

Rectified derivatives of Gaussians in eight directions (signed) at two scales, color and luminance, averaged over
cells and divided by the local contrast: a cousin of HOG and color names, as an ordinary convolution network.
"""

import jax
import jax.numpy as jnp
import numpy as np

Array = jax.Array

ORIENTATIONS = 8
SIGMAS = (1.0, 2.2)
RADIUS = 5
# luminance, red-green, blue-yellow: the opponent axes of an RGB image in 0..1
OPPONENT = np.array([[0.299, 0.587, 0.114], [0.5, -0.5, 0.0], [-0.25, -0.25, 0.5]], np.float32)


def init_variables() -> dict[str, Array]:
    """The kernels: `derivative` [k, k, 1, ORIENTATIONS * scales], `opponent` [3, 3] (input, output)."""
    axis = np.arange(-RADIUS, RADIUS + 1, dtype=np.float64)
    kernels = []
    for sigma in SIGMAS:
        gauss = np.exp(-(axis[:, None] ** 2 + axis[None] ** 2) / (2 * sigma**2))
        gauss /= gauss.sum()
        for angle in np.arange(ORIENTATIONS) * (2 * np.pi / ORIENTATIONS):
            slope = (np.sin(angle) * axis[:, None] + np.cos(angle) * axis[None]) / sigma
            kernels.append(slope * gauss)
    derivative = np.stack(kernels, -1)[:, :, None].astype(np.float32)
    return {"derivative": jnp.asarray(derivative), "opponent": jnp.asarray(OPPONENT.T)}


def extract(variables: dict[str, Array], images: Array) -> dict[str, Array]:
    """`images` [N, S, S, 3] RGB 0..255 -> taps "layer1" [N, S/4, S/4, 19] and "layer2" [N, S/8, S/8, 19]."""
    color = jnp.einsum("nhwc,cd->nhwd", images / 255, variables["opponent"])
    luminance, chroma = color[..., :1], color[..., 1:]
    padded = jnp.pad(luminance, ((0, 0), (RADIUS, RADIUS), (RADIUS, RADIUS), (0, 0)), mode="edge")
    slope = jax.lax.conv_general_dilated(
        padded, variables["derivative"], (1, 1), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    tint = jnp.concatenate([luminance - jnp.mean(luminance, (1, 2), keepdims=True), chroma], -1)
    edges, tint = _cell_mean(jax.nn.relu(slope), 4), 4 * _cell_mean(tint, 4)
    fine = jnp.concatenate([_normalize_contrast(edges), tint], -1)
    coarse = jnp.concatenate([_normalize_contrast(_cell_mean(edges, 2)), _cell_mean(tint, 2)], -1)
    return {"layer1": fine, "layer2": coarse}


def _normalize_contrast(edges: Array) -> Array:
    return edges / (jnp.sqrt(jnp.mean(_neighborhood_mean(edges**2), -1, keepdims=True)) + 1e-2)


def _cell_mean(x: Array, stride: int) -> Array:
    n, height, width, channels = x.shape
    cells = x.reshape(n, height // stride, stride, width // stride, stride, channels)
    return jnp.mean(cells, (2, 4))


def _neighborhood_mean(x: Array) -> Array:
    """Mean over 3 x 3 cells, the border repeated."""
    padded = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)), mode="edge")
    height, width = x.shape[1:3]
    shifted = [padded[:, i : i + height, j : j + width] for i in range(3) for j in range(3)]
    return sum(shifted) / len(shifted)
