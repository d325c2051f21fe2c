"""Convolution that is fast on a CPU also in batches, backwards and in groups; elsewhere XLA's own, group by group.

XLA's CPU backend reaches the rate of a matrix product for one image, but half of it or less for several, for channels
in groups and for 1x1 kernels; without padding large kernels and all gradients are slow, and so are dilated kernels. So
here images go one after another, groups are convolutions of their own, and 1x1 kernels are matrix products. Kernels of
3x3 and 5x5 cells are Winograd's tiles, of several images where the maps are small, and so are their gradients; where
that does not pay, dilated ones are a product for each of their cells, and large ones get a border that is cut off
again. Of images of few channels the places that a stride passes over become channels first. Elsewhere the kernel's
gradient is a product with the unfolded image. XLA's own are batches of narrow 3x3 kernels with a border, which it
computes beside others on other cores, where a loop over images waits for each; and the gradients of small kernels with
a border.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.extend.core import ClosedJaxpr, jaxpr_as_fun

from trackers.nets import windows, winograd

Array = jax.Array

_NUMBERS = ("NHWC", "HWIO", "NHWC")
# Least number of places, and of channels by the kernel's size, for which its transforms pay
WINOGRAD_OUTPUTS, WINOGRAD_CHANNELS = 256, {3: 64, 5: 32}
PLAIN_IMAGES, PLAIN_CHANNELS = 8, 128  # least of a batch, and most of a 3x3 kernel, that are XLA's own
FEW_CHANNELS = 4  # most of an image whose places become channels
# Least number of images that go through tiles together, and most of their places: fewer, of larger maps, take as long
# as one after another, and more take memory
TILED_IMAGES, TILED_PLACES = 8, 16384


def convolve(
    lhs: Array,
    rhs: Array,
    window_strides,
    padding,
    lhs_dilation=None,
    rhs_dilation=None,
    dimension_numbers=None,
    feature_group_count: int = 1,
    precision=None,
) -> Array:
    """`lax.conv_general_dilated` for `nn.Conv(conv_general_dilated=convolve)`: `[N, H, W, C]` and `[h, w, C / g, D]`.

    Reverse-mode derivatives only. On a CPU a batch that is sharded over devices is gathered first.
    """
    spatial = (np.array(lhs.shape[1:3]), np.array(rhs.shape[:2]))
    dilation = tuple(rhs_dilation or (1, 1))
    if isinstance(padding, str):
        extent = (spatial[1] - 1) * dilation + 1
        padding = lax.padtype_to_pads(spatial[0], extent, window_strides, padding)
    if lhs_dilation not in (None, 1, (1, 1)):
        raise ValueError(f"only lhs_dilation 1 is supported, not {lhs_dilation}")
    rule = {"strides": tuple(window_strides), "padding": tuple(map(tuple, padding)), "dilation": dilation}
    convolution = partial(_convolve, **rule, precision=precision)
    if feature_group_count == 1:
        return convolution(lhs, rhs)
    parts = zip(jnp.split(lhs, feature_group_count, -1), jnp.split(rhs, feature_group_count, -1), strict=True)
    return jnp.concatenate([convolution(image, kernel) for image, kernel in parts], -1)


@partial(jax.custom_vjp, nondiff_argnums=(2, 3, 4, 5))
def _convolve(images: Array, kernel: Array, strides, padding, dilation, precision) -> Array:
    """One group."""
    rule = {"strides": strides, "padding": padding, "dilation": dilation, "precision": precision}
    return lax.platform_dependent(images, kernel, cpu=partial(_on_cpu, **rule), default=partial(_plain, **rule))


def _forward(images, kernel, strides, padding, dilation, precision):
    return _convolve(images, kernel, strides, padding, dilation, precision), (images, kernel)


def _backward(strides, padding, dilation, precision, saved, cotangent):
    images, kernel = saved
    plain = partial(_plain, strides=strides, padding=padding, dilation=dilation, precision=precision)

    def to_images(cotangents):
        if strides != (1, 1) or _plain_pays(images, kernel, padding, dilation):
            return jax.linear_transpose(lambda images: plain(images, kernel), images)(cotangents)[0]
        if len(kernel) > 3 and _winograd_pays(_padded(images[:1], padding), kernel, strides, dilation):
            return _to_images(images, kernel, cotangents, padding, dilation, precision)
        # written out, since XLA is slow where it turns the kernel round by itself
        borders = [
            tuple(step * (size - 1) - before for before in sides)
            for size, step, sides in zip(kernel.shape, dilation, padding)
        ]
        turned = jnp.swapaxes(kernel[::-1, ::-1], 2, 3)
        return _on_cpu(cotangents, turned, strides, borders, dilation, precision)

    def to_kernel(cotangents):
        bordered = _padded(images, padding)
        in_tiles = _winograd_pays(bordered[:1], kernel, strides, dilation)
        own = _plain_learns(kernel, strides, padding, dilation) or _plain_pays(images, kernel, padding, dilation)
        if own and not in_tiles:
            return jax.linear_transpose(lambda kernel: plain(images, kernel), kernel)(cotangents)[0]
        at_once = 1
        unfolded = {"shape": kernel.shape, "strides": strides, "dilation": dilation, "precision": precision}
        if in_tiles or _winograd_pays(bordered, kernel, strides, dilation):
            at_once = _at_once(bordered)

            def learn(images, cotangents):
                tiles = partial(winograd.convolve, images, dilation=dilation[0], precision=precision)
                return jax.linear_transpose(tiles, kernel)(cotangents)[0]

        elif kernel.shape[2] <= FEW_CHANNELS:
            bordered, learn = bordered.transpose(0, 3, 1, 2), partial(_from_planes, **unfolded)
        else:
            learn = partial(_from_pixels, **unfolded)
        pairs = (array.reshape(-1, at_once, *array.shape[1:]) for array in (bordered, cotangents))
        return lax.scan(lambda total, pair: (total + learn(*pair), None), jnp.zeros_like(kernel), tuple(pairs))[0]

    def on_cpu(cotangents):
        return to_images(cotangents), to_kernel(cotangents)

    def elsewhere(cotangents):
        return jax.vjp(plain, images, kernel)[1](cotangents)

    return lax.platform_dependent(cotangent, cpu=on_cpu, default=elsewhere)


_convolve.defvjp(_forward, _backward)


def _plain(images: Array, kernel: Array, strides, padding, dilation, precision) -> Array:
    return lax.conv_general_dilated(
        images, kernel, strides, padding, rhs_dilation=dilation, dimension_numbers=_NUMBERS, precision=precision
    )


def _on_cpu(images: Array, kernel: Array, strides, padding, dilation, precision) -> Array:
    """`_plain` by what is fastest on a CPU for a kernel of this shape."""
    plain = partial(_plain, strides=strides, dilation=dilation, precision=precision)
    if _plain_pays(images, kernel, padding, dilation):
        return plain(images, kernel, padding=padding)
    images = _padded(images, padding)
    products = partial(_products, strides=strides, dilation=dilation, precision=precision)
    if kernel.shape[:2] == (1, 1):
        return products(images, kernel)
    if kernel.shape[2] <= FEW_CHANNELS and dilation == (1, 1):
        return _one_by_one(partial(_cut, precision=precision), *_space_to_depth(images, kernel, strides))
    tiles = partial(winograd.convolve, dilation=dilation[0], precision=precision)
    if _winograd_pays(images[:1], kernel, strides, dilation):
        # jaxlib 0.12 shares the products of one image between cores, too
        return _one_by_one(tiles, images, kernel, _at_once(images) if winograd.UNSHARED else 1)
    if _winograd_pays(images, kernel, strides, dilation):
        return tiles(images, kernel)
    if dilation != (1, 1):
        return _one_by_one(products, images, kernel)
    if min(kernel.shape[:2]) > 3 and strides == (1, 1):
        return _one_by_one(partial(_cut, precision=precision), images, kernel)
    return _one_by_one(partial(plain, padding="VALID"), images, kernel)


def _to_images(images: Array, kernel: Array, cotangents: Array, padding, dilation, precision) -> Array:
    """The images' gradient through tiles: they fit the cotangents, which a wide border would have to surround."""
    at_once = _at_once(_padded(images, padding))

    def part(cotangents):
        def forward(images):
            return winograd.convolve(_padded(images, padding), kernel, dilation[0], precision)

        shape = jax.ShapeDtypeStruct((at_once, *images.shape[1:]), images.dtype)
        return jax.linear_transpose(forward, shape)(cotangents)[0]

    return lax.map(part, cotangents.reshape(-1, at_once, *cotangents.shape[1:])).reshape(images.shape)


def _from_pixels(image: Array, cotangent: Array, shape, strides, dilation, precision) -> Array:
    """The kernel's gradient from one image `[1, H, W, C]`, a product with what each of its cells sees."""
    columns = jnp.concatenate(_taps(image, shape[:2], strides, dilation), -1)
    # the transpose of the product asked for, which XLA takes up to twice as long for
    pair = cotangent.reshape(-1, shape[3]), columns.reshape(-1, columns.shape[-1])
    return lax.dot_general(*pair, (((0,), (0,)), ((), ())), precision=precision).T.reshape(shape)


def _from_planes(image: Array, cotangent: Array, shape, strides, dilation, precision) -> Array:
    """The same of an image `[1, C, H, W]`: a few numbers at a time take longer to copy than to multiply."""
    rows = jnp.stack(_taps(image[0, ..., None], shape[:2], strides, dilation))
    pair = rows.reshape(shape[0] * shape[1] * shape[2], -1), cotangent.reshape(-1, shape[3])
    return jnp.dot(*pair, precision=precision).reshape(shape)


def _padded(images: Array, padding) -> Array:
    """With borders of zeros, or cut where they are negative."""
    borders = [(0, 0, 0), *((*sides, 0) for sides in padding), (0, 0, 0)]
    return lax.pad(images, jnp.zeros((), images.dtype), borders)


def _plain_pays(images: Array, kernel: Array, padding, dilation) -> bool:
    """Whether XLA's own convolution of a batch, which both cores share with what else there is to do, is as fast."""
    small = kernel.shape[:2] == (3, 3) and max(kernel.shape[2:]) <= PLAIN_CHANNELS
    return small and dilation == (1, 1) and _has_border(padding) and len(images) >= PLAIN_IMAGES


def _plain_learns(kernel: Array, strides, padding, dilation) -> bool:
    """Whether XLA's own gradient of the kernel is faster than a product with the unfolded image.

    It is for 3x3 at stride 1 and for a ResNet's 7x7 stem; of 5x5 and of AlexNet's 11x11 it takes two and three times.
    """
    if kernel.shape[2] <= FEW_CHANNELS:
        fast = max(kernel.shape[:2]) <= 7
    else:
        fast = kernel.shape[:2] == (3, 3) and strides == (1, 1)
    return fast and dilation == (1, 1) and _has_border(padding)


def _has_border(padding) -> bool:
    """On all sides: without one XLA has its slow convolution."""
    return min(map(min, padding)) > 0


def _winograd_pays(images: Array, kernel: Array, strides, dilation) -> bool:
    size = kernel.shape[0]
    if kernel.shape[1] != size or size not in winograd.OUTPUTS or strides != (1, 1) or dilation[0] != dilation[1]:
        return False
    places = len(images) * np.prod(np.array(images.shape[1:3]) - (size - 1) * np.array(dilation))
    precise = images.dtype in (jnp.float32, jnp.float64)  # its sums of large numbers are not for fewer bits
    return precise and places >= WINOGRAD_OUTPUTS and min(kernel.shape[2:]) >= WINOGRAD_CHANNELS[size]


def _products(images: Array, kernel: Array, strides, dilation, precision) -> Array:
    """`_plain` as the sum of a matrix product for each cell of the kernel."""
    return sum(
        lax.dot_general(tap, cell, (((3,), (0,)), ((), ())), precision=precision)
        for tap, cell in zip(
            _taps(images, kernel.shape[:2], strides, dilation), kernel.reshape(-1, *kernel.shape[2:]), strict=True
        )
    )


def _space_to_depth(images: Array, kernel: Array, strides) -> tuple[Array, Array]:
    """Images and kernel with the same convolution at stride 1: of s x s places each becomes s^2 channels of one."""
    cells = [-(-size // step) for size, step in zip(kernel.shape, strides)]
    height, width = (n + more - 1 for n, more in zip(_outputs(images.shape[1:3], kernel.shape, strides, (1, 1)), cells))

    def fold(array, shape, axes):
        """Continued by zeros, or cut, to whole cells along the two spatial axes."""
        border = [(0, 0, 0)] * array.ndim
        for axis, count, step in zip(axes, shape, strides):
            border[axis] = (0, count * step - array.shape[axis], 0)  # cut where it is negative
        return lax.pad(array, jnp.zeros((), array.dtype), border)

    image = fold(images, (height, width), (1, 2)).reshape(len(images), height, strides[0], width, strides[1], -1)
    weights = fold(kernel, cells, (0, 1)).reshape(cells[0], strides[0], cells[1], strides[1], *kernel.shape[2:])
    return (
        image.transpose(0, 1, 3, 2, 4, 5).reshape(len(images), height, width, -1),
        weights.transpose(0, 2, 1, 3, 4, 5).reshape(*cells, -1, kernel.shape[3]),
    )


def _cut(images: Array, kernel: Array, precision) -> Array:
    """`_plain` as the middle of a convolution with padding: for some sizes XLA takes a third of the time for that."""
    (height, width), out = kernel.shape[:2], np.array(images.shape[1:3]) - kernel.shape[:2] + 1
    whole = lax.conv_general_dilated(images, kernel, (1, 1), "SAME", dimension_numbers=_NUMBERS, precision=precision)
    top, left = (height - 1) // 2, (width - 1) // 2
    return whole[:, top : top + out[0], left : left + out[1]]


def _at_once(images: Array) -> int:
    """How many images of a batch go through tiles together: a divisor of the batch."""
    count, height, width, _ = images.shape
    most = TILED_PLACES // (height * width)
    if most < TILED_IMAGES:
        return 1
    return max(size for size in range(1, count + 1) if count % size == 0 and size <= most)


def _one_by_one(convolution, images: Array, kernel: Array, at_once: int = 1) -> Array:
    """`convolution(images, kernel)` image after image, also under `vmap`; or `at_once` images after as many others."""
    parts = images.reshape(-1, at_once, *images.shape[1:])
    program = jax.make_jaxpr(convolution)(parts[0], kernel)

    # Its constants as arguments: in a branch of a `cond` that differs between lanes JAX has them for each lane, too
    @jax.custom_batching.sequential_vmap
    def one(part, kernel, *constants):
        return jaxpr_as_fun(ClosedJaxpr(program.jaxpr, constants))(part, kernel)[0]

    if len(parts) == 1:
        return one(parts[0], kernel, *program.consts)
    found = lax.map(lambda part: one(part, kernel, *program.consts), parts)
    return found.reshape(len(images), *found.shape[2:])


def _taps(images: Array, size, strides, dilation) -> list[Array]:
    """What each cell of a kernel of `size` sees, row by row: `[N, h, w, C]`, one place for each output."""
    height, width = _outputs(images.shape[1:3], size, strides, dilation)
    return [
        tap
        for row in windows.along(images, 1, size[0], height, strides[0], dilation[0])
        for tap in windows.along(row, 2, size[1], width, strides[1], dilation[1])
    ]


def _outputs(size, kernel_size, strides, dilation) -> list[int]:
    """Height and width of what a convolution without padding makes of an image of `size`."""
    extent = [(n - 1) * step + 1 for n, step in zip(kernel_size, dilation)]
    return [(n - over) // step + 1 for n, over, step in zip(size, extent, strides)]
