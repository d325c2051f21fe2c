"""FLOPs of products, convolutions, loops and branches."""

import jax
import jax.numpy as jnp

from eval.measure.flops import count_flops

MATRIX = jnp.ones((4, 5))
PRODUCT = 2 * 4 * 5 * 5  # of MATRIX with a square one


def test_flops_of_products_and_convolutions():
    assert count_flops(lambda x: x @ jnp.ones((5, 5)), MATRIX) == PRODUCT
    image, kernel = jnp.ones((1, 8, 6, 3)), jnp.ones((3, 3, 3, 7))
    numbers = ("NHWC", "HWIO", "NHWC")

    def convolve(image):
        return jax.lax.conv_general_dilated(image, kernel, (1, 1), "SAME", dimension_numbers=numbers)

    assert count_flops(convolve, image) == 2 * (8 * 6 * 7) * (3 * 3 * 3)


def test_flops_of_loops_and_branches():
    def step(x):
        return x @ jnp.ones((5, 5))

    def while_loop(x):
        return jax.lax.while_loop(lambda carry: carry[0] < 3, lambda carry: (carry[0] + 1, step(carry[1])), (0, x))

    assert count_flops(lambda x: jax.lax.scan(lambda x, _: (step(x), None), x, length=6), MATRIX) == 6 * PRODUCT
    assert count_flops(while_loop, MATRIX) == 0
    assert count_flops(while_loop, MATRIX, while_steps=3) == 3 * PRODUCT
    assert count_flops(lambda x: jax.lax.cond(x[0, 0] > 0, step, lambda x: x, x), MATRIX) == PRODUCT
