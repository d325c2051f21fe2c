"""Properties of the networks: batching, training mode, initialization, empty samples, gradients."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ops.boxes import xywh_to_corners
from ops.prroi_pool import prroi_pool
from tests.helpers import narrow
from trackers.nets import dimp_classifier, models, resnet
from trackers.nets.dimp_classifier import DimpClassifier, init_optimizer, loss_maps, optimize_filter
from trackers.nets.iou_net import IoUNet, _ConvBlock
from trackers.nets.resnet import ResNet


def normal(rng, *shape):
    return jnp.asarray(rng.normal(size=shape), jnp.float32)


def random_variables(net, *arguments):
    """Variables of a sensible size without the compilation of an initialization."""
    rng = np.random.default_rng(1)
    shapes = jax.eval_shape(net.init, jax.random.key(0), *arguments)

    def draw(path, leaf):
        match path[-1].key:
            case "kernel":
                values = rng.normal(size=leaf.shape) / np.sqrt(np.prod(leaf.shape[:-1]))
            case "scale" | "var":
                values = rng.uniform(0.5, 1.5, leaf.shape)
            case _:
                values = 0.1 * rng.normal(size=leaf.shape)
        return jnp.asarray(values, leaf.dtype)

    return jax.tree_util.tree_map_with_path(draw, shapes)


@pytest.mark.parametrize("name", narrow.REAL_RESNETS)
def test_what_pytorch_is_compared_with_can_be_built(monkeypatch, name):
    """PyTorch is not installed where most tests run, so that the comparison itself would not say."""
    monkeypatch.setitem(models._MODELS, name, narrow.REAL_RESNETS[name])
    assert set(models.expected_variables(name)) == set(narrow.REAL_RESNETS[name].parts)


@pytest.fixture(scope="module")
def iou_net():
    """A small network (not in its fixed widths) with its variables."""
    net = IoUNet(inner=8)
    arguments = jnp.zeros((12, 12, 6)), jnp.zeros((6, 6, 10)), jnp.array([16.0, 16.0, 30.0, 40.0])
    return net, random_variables(net, *arguments)


def test_normalize_removes_the_imagenet_statistics():
    mean, std = np.array(resnet.IMAGENET_MEAN), np.array(resnet.IMAGENET_STD)
    images = np.stack([255 * mean, 255 * (mean + std), np.zeros(3)])[:, None]
    expected = np.stack([np.zeros(3), np.ones(3), -mean / std])[:, None]
    np.testing.assert_allclose(resnet.normalize(images), expected, atol=1e-5)
    assert resnet.normalize(np.zeros((2, 2, 3), np.uint8)).dtype == jnp.float32


def test_resnet_ends_with_its_last_layer_and_keeps_symmetric_padding(rng):
    net = ResNet(18, last_layer="layer2")
    images = normal(rng, 1, 33, 49, 3)
    variables = random_variables(net, images)
    apply = jax.jit(net.apply)
    taps = apply(variables, images)
    shapes = {name: tap.shape for name, tap in taps.items()}
    assert shapes == {"layer1": (1, 9, 13, 64), "layer2": (1, 5, 7, 128)}
    assert not any("layer3" in name for name in variables["params"])
    # Symmetric padding: a mirrored image with mirrored kernels gives mirrored features.
    mirrored = apply(
        {**variables, "params": jax.tree.map(mirror_kernel, variables["params"])}, images[:, ::-1, ::-1]
    )
    scale = jnp.abs(taps["layer2"]).max()
    np.testing.assert_allclose(mirrored["layer2"][:, ::-1, ::-1], taps["layer2"], atol=1e-4 * scale)


def mirror_kernel(leaf):
    return leaf[::-1, ::-1] if leaf.ndim == 4 else leaf


def test_resnet50_strides_in_the_first_or_the_second_convolution(rng):
    x = normal(rng, 1, 8, 8, 16)
    blocks = [resnet.Bottleneck(32, 2, stride_first) for stride_first in (False, True)]
    variables = random_variables(blocks[0], x)
    second, first = (jax.jit(block.apply)(variables, x) for block in blocks)
    assert first.shape == second.shape == (1, 4, 4, 32)
    # Stride in the 1x1 convolution reads every second pixel and nothing else.
    holes = x.at[:, 1::2].set(0).at[:, :, 1::2].set(0)
    np.testing.assert_array_equal(jax.jit(blocks[1].apply)(variables, holes), first)
    assert not np.allclose(jax.jit(blocks[0].apply)(variables, holes), second)


@pytest.mark.parametrize("padding", [0, 1])
def test_max_pool_equals_the_window_reduction(rng, padding):
    for size in (7, 8):
        x = normal(rng, 2, size, size + 1, 3)
        borders = ((0, 0), (padding, padding), (padding, padding), (0, 0))
        expected = jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, (1, 3, 3, 1), (1, 2, 2, 1), borders)
        np.testing.assert_array_equal(resnet.max_pool(x, padding), expected)


def test_training_normalizes_with_the_batch_and_moves_the_averages(rng):
    block = resnet.BasicBlock(8)
    x = 3 + normal(rng, 4, 6, 6, 8)
    variables = random_variables(block, x)
    _, updated = jax.jit(partial(block.apply, train=True, mutable=["batch_stats"]))(variables, x)
    y = jax.lax.conv_general_dilated(
        x,
        variables["params"]["conv1"]["kernel"],
        (1, 1),
        ((1, 1), (1, 1)),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )
    average = updated["batch_stats"]["bn1"]
    before = variables["batch_stats"]["bn1"]
    for name, batch in (("mean", y.mean((0, 1, 2))), ("var", y.var((0, 1, 2)))):
        np.testing.assert_allclose(average[name], 0.9 * before[name] + 0.1 * batch, rtol=1e-3, atol=1e-4)


def test_iou_net_modulates_pooled_features_as_the_peers_modulate_maps(iou_net, rng):
    net, variables = iou_net
    layer2, layer3 = normal(rng, 12, 12, 6), normal(rng, 6, 6, 10)
    boxes = jnp.array([[10.0, 12, 40, 30], [-20, 5, 60, 50]])

    @jax.jit
    def run(layer2, layer3, boxes):
        features = net.apply(variables, layer2, layer3, method="features")
        modulation = net.apply(variables, layer2, layer3, boxes[0], method="modulation")
        maps = tuple(f * m[None, None] for f, m in zip(features, modulation))
        ones = tuple(jnp.ones_like(m) for m in modulation)
        predict = partial(net.apply, variables, method="predict")
        return predict(modulation, features, boxes), predict(ones, maps, boxes)

    ours, peers = run(layer2, layer3, boxes)
    np.testing.assert_allclose(ours, peers, rtol=1e-4)
    assert np.ptp(ours) > 1e-3


def test_iou_net_takes_leading_axes(iou_net, rng):
    net, variables = iou_net
    layer2, layer3 = normal(rng, 2, 3, 12, 12, 6), normal(rng, 2, 3, 6, 6, 10)
    boxes = jnp.asarray(rng.uniform(10, 60, (2, 3, 4, 4)), jnp.float32)

    @jax.jit
    def run(layer2, layer3, boxes):
        modulation = net.apply(variables, layer2, layer3, boxes[..., 0, :], method="modulation")
        features = net.apply(variables, layer2, layer3, method="features")
        return net.apply(variables, modulation, features, boxes, method="predict")

    together = run(layer2, layer3, boxes)
    assert together.shape == (2, 3, 4)
    for index in np.ndindex(2, 3):
        np.testing.assert_allclose(
            together[index], run(layer2[index], layer3[index], boxes[index]), rtol=1e-4
        )


def test_iou_net_prediction_has_the_gradient_of_finite_differences(iou_net, rng, x64):
    net, variables = iou_net
    variables = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float64), variables)
    features = jnp.asarray(rng.normal(size=(12, 12, 8))), jnp.asarray(rng.normal(size=(6, 6, 8)))
    modulation = jnp.asarray(rng.normal(size=8)), jnp.asarray(rng.normal(size=8))
    boxes = jnp.array([[20.3, 13.1, 37.7, 29.4]])
    predict = jax.jit(lambda boxes: net.apply(variables, modulation, features, boxes, method="predict")[0])
    gradient = jax.grad(predict)(boxes)[0]
    for axis in range(4):
        step = 1e-5 * np.eye(4)[None, axis]
        numeric = (predict(boxes + step) - predict(boxes - step)) / 2e-5
        np.testing.assert_allclose(gradient[axis], numeric, rtol=1e-5, atol=1e-9)


def test_initialization_follows_the_peers():
    key, x = jax.random.key(3), jnp.zeros((1, 2, 2, 64))
    params = _ConvBlock(256, 3, 1).init(key, x, False)["params"]
    np.testing.assert_allclose(np.std(params["conv"]["kernel"]), np.sqrt(2 / (9 * 64)), rtol=0.02)  # fan-in
    scale = params["bn"]["scale"]
    assert 0 <= scale.min() < 0.05 and 0.95 < scale.max() <= 1  # U(0, 1)
    assert not np.any(params["conv"]["bias"]) and not np.any(params["bn"]["bias"])
    params = resnet.BasicBlock(32).init(key, x)["params"]
    np.testing.assert_allclose(np.std(params["conv1"]["kernel"]), np.sqrt(2 / (9 * 32)), rtol=0.02)  # fan-out
    assert np.all(params["bn1"]["scale"] == 1)


def test_models_have_the_peers_sizes():
    parts = {name: set(models.networks(name)) for name in models.names()}
    assert all("head" in parts[name] for name in models.names() if models.get(name).samples == "pairs")
    assert parts["mobilenetv2"] == {"backbone"}
    assert parts["siamrpn"] == {"backbone", "head"} and parts["siamrpnpp_resnet50"] == {"backbone", "neck", "head"}
    assert parts["dimp18"] == parts["dimp50"] == {"backbone", "classifier", "iou_net"}
    assert parts["atom"] == {"backbone", "iou_net"} and parts["atom_multiscale"] == {"backbone"}
    with pytest.raises(ValueError, match="unknown model 'yolo'"):
        models.networks("yolo")


def test_classification_features_have_equal_energy(rng):
    x = normal(rng, 3, 5, 6, 8) * jnp.array([0.1, 1, 100])[:, None, None, None]
    energy = jnp.mean(dimp_classifier.instance_l2_norm(x) ** 2, (1, 2, 3))
    np.testing.assert_allclose(energy, 1 / (8 * 16), rtol=1e-3)
    assert np.all(dimp_classifier.instance_l2_norm(jnp.zeros((2, 2, 8))) == 0)


def test_loss_maps_are_sums_of_hat_functions(rng, x64):
    optimizer = {
        name: jnp.asarray(rng.normal(size=8)) for name in ("label_bins", "mask_bins", "spatial_bins")
    }
    boxes = jnp.array([[30.0, 20, 50, 60], [32, 16, 64, 64]])  # the second is centered on a cell
    maps = loss_maps(optimizer, boxes, (7, 8), bin_size=0.5)
    for k, box in enumerate(np.asarray(boxes)):
        y, x = np.mgrid[:7, :8]
        distance = np.hypot(y - (box[1] + box[3] / 2) / 16, x - (box[0] + box[2] / 2) / 16) / 0.5
        hats = np.maximum(1 - np.abs(distance[..., None] - np.arange(8)), 0)
        hats[..., -1] = np.clip(1 + distance - 7, 0, 1)
        assert distance.max() > 8  # also beyond the last bin
        expected = [hats @ np.asarray(optimizer[name]) for name in optimizer]
        expected[1] = 1 / (1 + np.exp(-expected[1]))
        for actual, values in zip(maps, expected):
            np.testing.assert_allclose(actual[k], values, atol=1e-12)


def test_initial_maps_are_the_papers():
    optimizer = init_optimizer()
    label, mask, weight = loss_maps(optimizer, jnp.array([[112.0, 112, 64, 64]]), (19, 19))
    assert mask[0, 9, 9] == pytest.approx(0.947, abs=1e-3)
    assert mask[0, 9, 11] == pytest.approx(0.5, abs=1e-3)
    assert mask[0, 0, 0] == pytest.approx(0.047, abs=1e-3)
    assert label[0, 9, 9] == pytest.approx(1, abs=1e-3)
    assert label[0, 9, 10] == pytest.approx(np.exp(-0.5 / 0.81), abs=1e-3)
    np.testing.assert_array_equal(weight, 1)


def test_empty_samples_contribute_nothing(rng):
    features, start = normal(rng, 3, 6, 6, 4), 0.1 * normal(rng, 4, 4, 4)
    boxes = jnp.array([[20.0, 24, 40, 32], [32, 32, 32, 32], [23, 26, 40, 32]])
    weights = jnp.array([0.5, 0.2, 0.3])
    optimize = jax.jit(partial(optimize_filter, init_optimizer(), num_steps=3, max_steps=3))
    padded = jnp.concatenate([features, 7 * jnp.ones((2, 6, 6, 4))])
    padded_boxes = jnp.concatenate([boxes, jnp.zeros((2, 4))])
    padded_weights = jnp.concatenate([weights, jnp.zeros(2)])
    expected = optimize(start, features, boxes, weights)
    np.testing.assert_allclose(
        optimize(start, padded, padded_boxes, padded_weights), expected, rtol=1e-4, atol=1e-7
    )
    assert not np.allclose(optimize(start, features, boxes), expected, rtol=1e-3)

    def loss(features, boxes, weights):
        return jnp.sum(optimize(start, features, boxes, weights) ** 2)

    gradients = jax.jit(jax.grad(loss, (0, 1, 2)))(padded, padded_boxes, padded_weights)
    for gradient in gradients:
        assert np.all(np.isfinite(gradient)) and np.any(gradient[:3])
        assert not np.any(gradient[3:])


def test_optimizer_takes_a_traced_number_of_steps(rng):
    features, start = normal(rng, 2, 6, 6, 4), 0.1 * normal(rng, 4, 4, 4)
    boxes = jnp.array([[20.0, 24, 40, 32], [32, 32, 32, 32]])

    @partial(jax.jit, static_argnames="max_steps")
    def optimize(num_steps, max_steps=4):
        return optimize_filter(
            init_optimizer(), start, features, boxes, num_steps=num_steps, max_steps=max_steps
        )

    for steps in range(4):
        np.testing.assert_allclose(optimize(steps), optimize(steps, max_steps=max(steps, 1)), rtol=1e-5)
    np.testing.assert_array_equal(optimize(0), start)
    assert optimize._cache_size() <= 5


def test_initial_filter_is_the_mean_over_the_samples(rng):
    classifier = DimpClassifier(blocks=0, channels=8)
    layer3, boxes = normal(rng, 3, 6, 6, 5), jnp.asarray(rng.uniform(16, 64, (3, 4)), jnp.float32)
    variables = random_variables(classifier, layer3, boxes)
    features = jax.jit(partial(classifier.apply, method="extract"))(variables, layer3)
    assert features.shape == (3, 6, 6, 8)
    initial = jax.jit(partial(classifier.apply, variables, method="initial_filter"))
    one_by_one = [initial(features[i : i + 1], boxes[i : i + 1]) for i in range(3)]
    together = initial(features, boxes)
    assert together.shape == (4, 4, 8)
    np.testing.assert_allclose(together, np.mean(one_by_one, 0), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("blocks", [0, 1])
def test_identity_start_passes_layer3_and_pools_it(rng, blocks):
    net = DimpClassifier(blocks=blocks, channels=6)
    taps, boxes = jnp.abs(normal(rng, 2, 8, 8, 6)), jnp.array([[30.0, 20, 50, 60], [40, 40, 30, 30]])
    variables = dimp_classifier.identity_start(random_variables(net, taps, boxes))
    features = net.apply(variables, taps, method="extract")
    np.testing.assert_allclose(features, dimp_classifier.instance_l2_norm(taps), rtol=1e-5)
    pooled = [prroi_pool(one, xywh_to_corners(box), bins=4, spatial_scale=1 / 16) for one, box in zip(features, boxes)]
    found = net.apply(variables, features, boxes, method="initial_filter")
    np.testing.assert_allclose(found, np.mean(pooled, 0), rtol=1e-4, atol=1e-6)
    with pytest.raises(ValueError, match="6 channels into 4"):
        dimp_classifier.identity_start(random_variables(DimpClassifier(blocks=0, channels=4), taps, boxes))
