"""The networks of ATOM and DiMP on formula weights, through the converter, next to the references' own outputs.

Networks are compared at 1e-4 relative L2 norm in float32; iterates of the filter optimizer at 1e-4 (or ten
times the reference's own float32 deviation) in float32 and at 1e-5 in float64.
"""

import json
from functools import lru_cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict

from eval import convert
from ops.least_squares import squared_norm
from tests.golden import formula
from tests.helpers import oracle
from tests.helpers.compilation import jit_as_for_users
from trackers.nets import resnet
from trackers.nets.dimp_classifier import init_optimizer, optimize_filter, residual_args, residuals
from trackers.nets.models import expected_variables, networks
from trackers.parts.box_refinement import RefinementConfig, ascend
from trackers.weights import files
from trackers.weights.convert import from_peer

SCHEMAS = {"dimp18": "dimp18", "dimp50": "dimp50", "atom": "atom18"}
TAPS = [f"{layer}_{kind}" for layer in ("layer2", "layer3") for kind in ("train", "test")]
IOU = ["modulation3", "modulation4", "ioufeat3_test", "ioufeat4_test", "iou_pred", "iou_grad_xywh"]
IOU += ["ascent_boxes", "ascent_iou"]
FEATURES = ["clf_train", "clf_test", "filter_0"]
ITERATES = ["filter_1", "filter_5", "losses_0to5", "scores_filter_0", "scores_filter_1", "scores_filter_5"]
ITERATES += ["filter_5_then_2_weighted", "losses_weighted", "scores_after_weighted"]
DIMP50 = pytest.param("dimp50", marks=pytest.mark.full)
NETWORK_ARRAYS = [(model, key) for model in SCHEMAS for key in TAPS + IOU + FEATURES * (model != "atom")]


@pytest.mark.parametrize(
    ("model", "key"),
    [pytest.param(*array, marks=[pytest.mark.full] * (array[0] == "dimp50")) for array in NETWORK_ARRAYS],
)
def test_golden_networks(model, key):
    oracle.assert_golden(outputs(model)[key], SCHEMAS[model], key, relative=1e-4)


@pytest.mark.parametrize("model", ["dimp18", DIMP50])
@pytest.mark.parametrize("key", ITERATES)
def test_golden_optimizer(model, key):
    tolerance = max(1e-4, 10 * oracle.float32_deviation(SCHEMAS[model], key))
    oracle.assert_golden(outputs(model)[key], SCHEMAS[model], key, relative=tolerance)


@pytest.mark.parametrize("key", FEATURES + ITERATES)
def test_golden_optimizer_float64(key):
    oracle.assert_golden(classifier_outputs_float64("dimp18")[key], SCHEMAS["dimp18"], key, relative=1e-5)


def test_golden_iou_is_far_off_with_the_wrong_flattening():
    """A plain transpose of the linear layers has the right shape, so only numbers can tell."""
    params = parameters("atom")
    wrong = jax.tree.map(lambda leaf: leaf, params)
    for layer in ("fc3_rt", "fc4_rt"):
        weight = oracle.weights("atom18")[f"bb_regressor.{layer}.linear.weight"]
        wrong["iou_net"]["params"][layer]["linear"]["kernel"] = weight.T
    taps = {kind: _taps("atom", kind) for kind in ("train", "test")}
    predicted = iou_outputs("atom", wrong, taps)["iou_pred"]
    assert oracle.relative_l2(predicted, oracle.arrays("atom18")["iou_pred"]) > 1e-2


@pytest.mark.parametrize("trap", ["epsilon", "batch statistics", "unread statistics"])
def test_golden_taps_are_off_with_the_wrong_batch_normalization(trap, monkeypatch):
    variables = parameters("atom")["backbone"]
    if trap == "epsilon":
        monkeypatch.setattr(resnet, "BATCH_NORM_EPSILON", 1e-3)
    if trap == "unread statistics":
        fresh = {"mean": np.zeros_like, "var": np.ones_like}
        statistics = variables["batch_stats"]
        statistics = jax.tree_util.tree_map_with_path(
            lambda path, leaf: fresh[path[-1].key](leaf), statistics
        )
        variables = {**variables, "batch_stats": statistics}
    network = networks("atom")["backbone"]
    train = trap == "batch statistics"
    apply = partial(network.apply, train=train, mutable=["batch_stats"])
    taps, _ = jit_as_for_users(apply)(variables, normalized_images("atom", "test"))
    actual = _channels_first(taps["layer3"])[tuple(slice(None, None, int(s)) for s in _stride("layer3_test"))]
    assert oracle.relative_l2(actual, oracle.arrays("atom18")["layer3_test"]) > 1e-3


@pytest.mark.parametrize("model", SCHEMAS)
def test_golden_conversion_uses_every_tensor_but_the_declared_ones(model):
    state = oracle.weights(SCHEMAS[model])
    _, dropped = from_peer(state, model, model)
    unused = ("feature_extractor.layer4.", "feature_extractor.fc.")
    declared = [name for name in state if name.startswith(unused) or name.endswith(".num_batches_tracked")]
    assert dropped == sorted(declared)
    assert len(state) - len(dropped) == len(flatten_dict(parameters(model)))


def test_golden_weights_go_through_the_command(tmp_path, capsys):
    np.savez(tmp_path / "atom.npz", **oracle.weights("atom18"))
    destination = tmp_path / "atom.safetensors"
    assert convert.main([str(tmp_path / "atom.npz"), str(destination), "--model", "atom"]) == 0
    loaded = files.load(destination, expected_variables("atom"))
    jax.tree.map(np.testing.assert_array_equal, loaded, parameters("atom"))
    assert "feature_extractor.fc.bias" in capsys.readouterr().out


@pytest.mark.parametrize("weights", [None, (0.5, 0.3, 0.2)])
def test_golden_dimp_optimizer(weights, x64):
    """Ten bins of half a cell, three images of formula-defined features; see the formulas at `small_problem`."""
    stored = json.loads((oracle.HERE / "optimisers.json").read_text())
    expected = stored["dimp_opt" if weights is None else "dimp_opt_weighted"]
    filters, losses, maps = jit_as_for_users(partial(small_problem, weights=weights))(small_optimizer())
    np.testing.assert_allclose(losses, expected["losses"], rtol=1e-5)
    np.testing.assert_allclose(jnp.sum(filters[-1]), expected["f_sum"], rtol=1e-5)
    np.testing.assert_allclose(squared_norm(filters[-1]), expected["f_sq"], rtol=1e-5)
    if weights is None:
        np.testing.assert_allclose(filters[-1, ..., 0].reshape(-1)[:6], expected["f_first"], rtol=1e-5)
        np.testing.assert_allclose(maps[0][0, 2], expected["label0_row2"], atol=1e-6)
        np.testing.assert_allclose(maps[1][0, 2], expected["mask0_row2"], atol=1e-6)


def test_golden_dimp_meta_gradient(x64):
    """The gradient of the squared norm of the third iterate in what the optimizer has learned."""
    expected = json.loads((oracle.HERE / "optimisers.json").read_text())["dimp_meta_grad"]
    gradient = jit_as_for_users(jax.grad(lambda optimizer: squared_norm(small_problem(optimizer, None)[0][-1])))(
        small_optimizer()
    )
    stored_names = {
        "log_step_length": "d_logstep",
        "filter_reg": "d_reg",
        "label_bins": "d_label",
        "mask_bins": "d_mask",
        "spatial_bins": "d_spatial",
    }
    for name, stored_name in stored_names.items():
        np.testing.assert_allclose(gradient[name], expected[stored_name], rtol=1e-5, atol=1e-8, err_msg=name)


def small_optimizer():
    optimizer = init_optimizer(bins=10, bin_size=0.5)
    distance = np.arange(10) * 0.5
    gauss = np.exp(-0.5 * (distance / 0.9) ** 2)
    exact = {"log_step_length": np.log(0.9), "filter_reg": 0.1}
    exact |= {"label_bins": gauss - gauss.min(), "mask_bins": 3 * np.tanh(2 - distance)}
    exact |= {"spatial_bins": np.ones(10)}
    for name, value in exact.items():
        np.testing.assert_allclose(optimizer[name], value, rtol=1e-6, atol=1e-7, err_msg=name)
    return exact


def small_problem(optimizer, weights):
    """feat[n, c, i, j] = sin(1 + .7 n + 1.3 c + .5 i + .9 j), w0[c, a, b] = .05 cos(c + .3 a + .7 b), three boxes."""
    n, i, j, c = np.ogrid[:3, :6, :6, :4]
    features = jnp.asarray(np.sin(1 + 0.7 * n + 1.3 * c + 0.5 * i + 0.9 * j))
    a, b, c = np.ogrid[:4, :4, :4]
    start = jnp.asarray(0.05 * np.cos(c + 0.3 * a + 0.7 * b))
    boxes = jnp.array([[20.0 + 3 * k, 24.0 + 2 * k, 40.0, 32.0] for k in range(3)])
    weights = None if weights is None else jnp.array(weights)
    _, filters = optimize_filter(
        optimizer, start, features, boxes, weights, num_steps=3, max_steps=3, iterates=True, bin_size=0.5
    )
    args = residual_args(optimizer, features, boxes, weights, bin_size=0.5)
    losses = [squared_norm(residuals(filter, *args)) for filter in filters]
    return filters, jnp.stack(losses), args[1:3]


@lru_cache
def parameters(model):
    return from_peer(oracle.weights(SCHEMAS[model]), model, model)[0]


@lru_cache
def outputs(model):
    """Every array of the golden file of `model`, in the oracle's layout."""
    taps = {kind: _taps(model, kind) for kind in ("train", "test")}
    result = {
        f"{layer}_{kind}": _channels_first(taps[kind][layer])
        for kind in taps
        for layer in ("layer2", "layer3")
    }
    result |= iou_outputs(model, parameters(model), taps)
    if model != "atom":
        result |= classifier_outputs(model, taps["train"]["layer3"], taps["test"]["layer3"], jnp.float32)
    return result


@lru_cache
def classifier_outputs_float64(model):
    with jax.enable_x64(True):
        params = jax.tree.map(lambda leaf: leaf.astype(np.float64), parameters(model))
        layer3 = [_taps(model, kind, params["backbone"])["layer3"] for kind in ("train", "test")]
        return classifier_outputs(model, *layer3, jnp.float64)


def classifier_outputs(model, layer3_train, layer3_test, dtype):
    classifier = networks(model)["classifier"]
    variables = jax.tree.map(lambda leaf: jnp.asarray(leaf, dtype), parameters(model)["classifier"])
    optimizer = variables["params"]["optimizer"]
    stored = oracle.arrays(SCHEMAS[model])
    boxes = jnp.asarray(stored["in_train_boxes_xywh"], dtype)  # [frames, sequences, 4]
    weights = jnp.asarray(stored["in_sample_weight"], dtype)
    extract = jit_as_for_users(partial(classifier.apply, method="extract"))
    train = _frames_and_sequences(extract(variables, layer3_train), boxes.shape[1])
    test = _frames_and_sequences(extract(variables, layer3_test), boxes.shape[1])

    @jit_as_for_users
    @partial(jax.vmap, in_axes=1)
    def learn(train, test, boxes, weights):
        """One sequence: the filters, the losses around every step, the scores of the test frames."""
        start = classifier.apply(variables, train, boxes, method="initial_filter")
        descend = partial(optimize_filter, optimizer, iterates=True)
        last, filters = descend(start, train, boxes, num_steps=5, max_steps=5)
        more = descend(last, train, boxes, weights, num_steps=2, max_steps=2)[1]

        def losses(filters, *weights):
            args = residual_args(optimizer, train, boxes, *weights)
            return jax.lax.map(lambda filter: squared_norm(residuals(filter, *args)), filters)

        shown = jnp.stack([filters[0], filters[1], filters[5], more[2]])
        return shown, losses(filters), losses(more, weights), jax.vmap(scores, (None, 0))(test, shown)

    filters, losses, losses_weighted, score_maps = learn(train, test, boxes, weights)
    result = {
        "clf_train": np.moveaxis(train, -1, -3),
        "clf_test": np.moveaxis(test, -1, -3),
        "losses_0to5": np.mean(losses, 0),
        "losses_weighted": np.mean(losses_weighted, 0),
    }
    for index, name in enumerate(["0", "1", "5", "5_then_2_weighted"]):
        result[f"filter_{name}"] = np.moveaxis(filters[:, index], -1, 1)
        score_name = "scores_after_weighted" if "then" in name else f"scores_filter_{name}"
        result[score_name] = np.swapaxes(score_maps[:, index], 0, 1)
    return result


def scores(features, filter):
    """The scores are the data residuals of a loss with label 0, mask 1 and weight 1."""
    return residuals(filter, features, 0.0, 1.0, 1.0, 0.0)[0]


def iou_outputs(model, params, taps):
    stored = oracle.arrays(SCHEMAS[model])
    train_boxes, proposals = stored["in_train_boxes_xywh"], jnp.asarray(stored["in_proposals_xywh"])
    sequences = train_boxes.shape[1]
    network, variables = networks(model)["iou_net"], params["iou_net"]
    train, test = (
        [_frames_and_sequences(taps[kind][f"layer{i}"], sequences) for i in (2, 3)] for kind in taps
    )
    modulation = jit_as_for_users(partial(network.apply, method="modulation"))(variables, *train, train_boxes)
    features = jit_as_for_users(partial(network.apply, method="features"))(variables, *test)
    predict = partial(network.apply, method="predict")

    @jit_as_for_users
    def predicted_and_gradient(variables, modulation, features, boxes):
        predicted, pull = jax.vjp(lambda boxes: predict(variables, modulation, features, boxes), boxes)
        return predicted, pull(jnp.ones_like(predicted))[0]

    @jit_as_for_users
    def climb(variables, modulation, features, boxes):
        return ascend(partial(predict, variables, modulation, features), boxes, RefinementConfig())

    first = [jnp.broadcast_to(m[:1], (len(proposals), *m.shape[1:])) for m in modulation]
    predicted, gradient = predicted_and_gradient(variables, first, features, proposals)
    one = [[leaf[0, 0] for leaf in pair] for pair in (modulation, features)]
    last, _, (boxes, ious) = climb(variables, *one, proposals[0, 0])
    return {
        "modulation3": modulation[0],
        "modulation4": modulation[1],
        "ioufeat3_test": _channels_first(features[0].reshape(-1, *features[0].shape[2:])),
        "ioufeat4_test": _channels_first(features[1].reshape(-1, *features[1].shape[2:])),
        "iou_pred": predicted,
        "iou_grad_xywh": gradient,
        "ascent_boxes": np.concatenate([boxes, last[None]]),
        "ascent_iou": ious,
    }


@lru_cache
def normalized_images(model, kind):
    """`[frames x sequences, H, W, 3]`, frame-major."""
    family = "atom" if model == "atom" else "dimp"
    sizes = oracle.settings()[family]
    frames, sequences = sizes[f"{kind}_frames"], sizes["sequences"]
    images = formula.dimp_images(oracle.salt(), kind, frames, sequences, sizes["crop"], family)
    return resnet.normalize(images.reshape(-1, *images.shape[2:]).transpose(0, 2, 3, 1))


@lru_cache
def _taps_float32(model, kind):
    return jit_as_for_users(networks(model)["backbone"].apply)(
        parameters(model)["backbone"], normalized_images(model, kind)
    )


def _taps(model, kind, variables=None):
    if variables is None:
        return _taps_float32(model, kind)
    images = normalized_images(model, kind).astype(jnp.float64)
    return jit_as_for_users(networks(model)["backbone"].apply)(variables, images)


def _stride(key):
    return oracle.arrays("atom18")[f"{key}__stride"]


def _frames_and_sequences(array, sequences):
    return array.reshape(-1, sequences, *array.shape[1:])


def _channels_first(array):
    return np.moveaxis(np.asarray(array), -1, 1)
