"""The backbone in bfloat16: what is learned, and the statistics of its batch normalization, stay in float32."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.helpers.bright_squares import example
from trackers.nets import models
from train import atom, dimp, loop
from train.forward import applying, backbone_taps

OPTIMIZER = loop.OptimizerConfig(groups=(("^backbone/", 1e-3),))


def loss(params, batch, dtype):
    """A loss of the backbone alone, which takes little time to compile."""
    apply, params = applying("dimp_tiny", params)
    taps = backbone_taps(apply, batch["train_images"], True, dtype)
    assert all(tap.dtype == jnp.float32 for tap in taps)
    return sum(jnp.mean((tap - 0.5) ** 2) for tap in taps), (params, {})


@pytest.mark.full
def test_bfloat16_computes_and_float32_remembers():
    params = {"backbone": models.init_variables("dimp_tiny", jax.random.key(0))["backbone"]}
    state, batch, results = loop.init_state(params, OPTIMIZER), example(jnp.float32), {}
    for dtype in ("float32", "bfloat16"):
        step = loop.make_step(partial(loss, dtype=dtype), lambda key, batch: batch, OPTIMIZER, 0)
        results[dtype] = jax.jit(step)(state, batch)
        kinds = {leaf.dtype for leaf in jax.tree.leaves(results[dtype])}
        assert kinds == {np.dtype("float32"), np.dtype("int32"), np.dtype("bool")}
    (exact, expected), (rounded, found) = results["float32"], results["bfloat16"]
    assert found["loss"] != expected["loss"] and found["finite"]
    np.testing.assert_allclose(found["loss"], expected["loss"], rtol=0.02)
    np.testing.assert_allclose(found["gradient_norm"], expected["gradient_norm"], rtol=0.05)

    def moved(after, collection):
        pair = (jax.tree.leaves(one.params["backbone"][collection]) for one in (state, after))
        return np.concatenate([np.ravel(end - start) for start, end in zip(*pair)])

    statistics, rounded_statistics = moved(exact, "batch_stats"), moved(rounded, "batch_stats")
    assert np.linalg.norm(rounded_statistics - statistics) < 0.02 * np.linalg.norm(statistics)
    # Adam's first step, which parameters in bfloat16 would round by up to a third
    np.testing.assert_allclose(np.median(np.abs(moved(rounded, "params"))), 1e-3, rtol=1e-3)


@pytest.mark.full
@pytest.mark.parametrize("module", [dimp, atom])
def test_the_losses_take_the_backbone_and_nothing_else_in_bfloat16(module):
    params, batch = models.expected_variables("dimp_tiny"), example(jnp.float32)
    losses = {}
    for dtype in ("float32", "bfloat16"):
        config = module.LossConfig(model="dimp_tiny", backbone_dtype=dtype)
        losses[dtype] = str(jax.make_jaxpr(partial(module.loss, config=config))(params, batch))
    convolutions = [line for line in losses["bfloat16"].splitlines() if "= conv_general_dilated[" in line]
    assert sum("bf16[" in line for line in convolutions) == 2 * 9  # training and test frames
    assert len(convolutions) > 2 * 9 and "bf16" not in losses["float32"]
