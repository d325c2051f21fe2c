"""DiMP's training loss: its parts against the reference, its gradient, and that it can be lowered."""

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from ops import boxes
from tests.golden import formula
from tests.helpers import oracle
from tests.helpers.bright_squares import example
from trackers.weights.convert import from_peer
from train import atom, dimp, loop, losses
from train.loop import trained, with_trained

EVERYTHING = loop.OptimizerConfig(groups=((".", 1.0),))


def test_golden_hinge_loss_and_its_gradient():
    stored = oracle.arrays("train_pytracking")
    labels = stored["ltr_gaussian_label_k4"][:, None]
    scores = formula.normal(oracle.salt(), "train/scores", labels.shape, 0.3)
    value, gradient = jax.value_and_grad(losses.hinge_regression)(jnp.asarray(scores), jnp.asarray(labels), 0.05)
    np.testing.assert_allclose(value, stored["lbhinge_loss"][0], rtol=1e-5)
    np.testing.assert_allclose(gradient, stored["lbhinge_grad"], atol=1e-5 * np.abs(stored["lbhinge_grad"]).max())


def test_golden_overlap_targets():
    stored = oracle.arrays("train_pytracking")
    overlap = boxes.iou(jnp.asarray(stored["iou_prop"]), jnp.asarray(stored["iou_ref"]))
    np.testing.assert_allclose(overlap, stored["iou"], atol=1e-6)
    assert losses.overlap_regression(jnp.asarray(stored["iou_target_2iou_minus1"]), overlap) < 1e-10


def parameters(dtype):
    state = formula.weights(oracle.schema("dimp18"), "training", "dimp18")
    return jax.tree.map(lambda leaf: jnp.asarray(leaf, dtype), from_peer(state, "dimp18", "formula")[0])


@pytest.fixture
def x64():
    with jax.enable_x64():
        yield


@pytest.mark.full
def test_the_whole_gradient_against_finite_differences(x64):
    """Float64, along random directions in each part: backbone, classifier, the optimizer's own numbers, IoU-Net."""
    params, batch = parameters(jnp.float64), example(jnp.float64)
    config = dimp.LossConfig(filter_steps=2)

    def value(learned):
        return dimp.loss(with_trained(params, learned), batch, config)[0]

    value_and_grad, value = jax.jit(jax.value_and_grad(value)), jax.jit(value)
    start = trained(params, EVERYTHING)
    gradient = value_and_grad(start)[1]
    groups = {part: {part: start[part]} for part in start}
    groups["optimizer"] = {"classifier": {"params": {"optimizer": start["classifier"]["params"]["optimizer"]}}}
    rng = np.random.default_rng(1)
    for name, group in groups.items():
        # Relative steps: leaves differ in size by orders of magnitude.
        direction = jax.tree.map(lambda leaf: jnp.asarray(rng.standard_normal(leaf.shape)) * jnp.abs(leaf), group)
        every = merge(jax.tree.map(jnp.zeros_like, start), direction)
        step = 1e-7
        ends = [value(jax.tree.map(lambda a, d: a + sign * step * d, start, every)) for sign in (1, -1)]  # noqa: B023
        numeric = (ends[0] - ends[1]) / (2 * step)
        exact = sum(jax.tree.leaves(jax.tree.map(lambda a, d: jnp.sum(a * d), gradient, every)))
        assert abs(exact) > 1e-6, name
        np.testing.assert_allclose(exact, numeric, rtol=2e-4, err_msg=name)


def merge(tree, part):
    return {
        key: merge(value, part[key]) if isinstance(part.get(key), dict) else part.get(key, value)
        for key, value in tree.items()
    }


def test_the_loss_of_atom_is_that_of_its_part_of_dimp():
    """The same backbone and IoU-Net; only the IoU-Net's parameters have a gradient where the statistics are stored."""
    params, batch = parameters(jnp.float32), example(jnp.float32)
    stored = replace(dimp.LossConfig(), backbone_statistics="stored")
    expected = jax.jit(partial(dimp.loss, config=stored))(params, batch)[1][1]["overlap"]
    config = atom.LossConfig(backbone_statistics="stored")
    params = {part: params[part] for part in ("backbone", "iou_net")}
    value, (after, parts) = jax.jit(partial(atom.loss, config=config))(params, batch)
    np.testing.assert_allclose(value, expected, rtol=1e-4)
    assert value == parts["overlap"] and jax.tree.structure(after) == jax.tree.structure(params)


@pytest.mark.full
def test_statistics_of_the_batch_or_the_stored_ones():
    params, batch = parameters(jnp.float32), example(jnp.float32)
    frozen = replace(dimp.LossConfig(), backbone_statistics="stored")
    for config, changes in ((dimp.LossConfig(), True), (frozen, False)):
        after = jax.jit(partial(dimp.loss, config=config))(params, batch)[1][0]
        assert jax.tree.structure(after) == jax.tree.structure(params)
        same = jax.tree.map(np.array_equal, after["backbone"], params["backbone"])
        assert all(jax.tree.leaves(same["params"])) and all(jax.tree.leaves(same["batch_stats"])) != changes
        for part in ("classifier", "iou_net"):
            moved = jax.tree.map(np.array_equal, after[part], params[part])
            assert all(jax.tree.leaves(moved["params"])) and not all(jax.tree.leaves(moved["batch_stats"]))


@pytest.mark.full
def test_a_few_steps_lower_every_part_of_the_loss():
    params, batch = parameters(jnp.float32), example(jnp.float32)
    config = dimp.LossConfig(filter_steps=2, backbone_statistics="stored")
    optimizer = optax.adam(1e-3)

    def step(params, state):
        def value(learned):
            return dimp.loss(with_trained(params, learned), batch, config)

        gradient, (after, parts) = jax.grad(value, has_aux=True)(trained(params, EVERYTHING))
        updates, state = optimizer.update(gradient, state)
        return with_trained(after, optax.apply_updates(trained(params, EVERYTHING), updates)), state, parts

    state, history, step = optimizer.init(trained(params, EVERYTHING)), [], jax.jit(step)
    for _ in range(8):
        params, state, parts = step(params, state)
        history.append(parts)
    # The best of the steps: with one batch and this rate the loss varies, differently on each kind of processor.
    assert min(parts["overlap"] for parts in history) < 0.5 * history[0]["overlap"]
    assert min(parts["classification"][-1] for parts in history) < 0.8 * history[0]["classification"][-1]
