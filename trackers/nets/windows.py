"""What the cells of a sliding window see, as strided slices."""

import jax

Array = jax.Array


def along(array: Array, axis: int, cells: int, length: int, stride: int = 1, dilation: int = 1) -> list[Array]:
    """Of each of the `cells` of a window along `axis`: its values at `length` places, which are `stride` apart."""
    axis %= array.ndim
    return [
        jax.lax.slice_in_dim(array, start, start + (length - 1) * stride + 1, stride, axis)
        for start in range(0, cells * dilation, dilation)
    ]
