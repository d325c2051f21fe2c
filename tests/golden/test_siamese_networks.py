"""The networks of the Siamese trackers on formula weights, through the converter, next to the references' own outputs.

Compared at 1e-4 relative L2 norm, in float32 with exact products: the references' own float32 is off by up to 2e-5.
"""

import math
from functools import lru_cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict

from eval import convert
from tests.golden import formula
from tests.helpers import oracle, places
from trackers.nets import mobilenet, models, resnet, siamese
from trackers.nets.mobilenet import MobileNetV2
from trackers.nets.rpn import DepthwiseRPN, SiamFCHead, UpChannelRPN
from trackers.weights import WeightsError, files
from trackers.weights.convert import from_peer

SHARED = places.SHARED / "weights"
LARGE = ("siamrpn_big", "siamrpnpp_resnet50")
GOLDEN = {  # model -> the oracle's name
    "siamfc": "siamfc",
    "siamrpn": "SiamRPNvot",
    "siamrpn_big": "SiamRPNBIG",
    "siamrpnpp_alexnet": "siamrpn_alex_dwxcorr",
    "siamrpnpp_mobilenetv2": "siamrpn_mobilev2_l234_dwxcorr",
    "siamrpnpp_resnet50": "siamrpn_r50_l234_dwxcorr",
}
OTHERS = {  # schemas without arrays: schema -> model
    "siamrpn_alex_dwxcorr_16gpu": "siamrpnpp_alexnet",
    "siamrpn_r50_l234_dwxcorr_otb": "siamrpnpp_resnet50_otb",
    "siamrpn_r50_l234_dwxcorr_lt": "siamrpnpp_resnet50_lt",
}
PARAMETERS = {
    "siamfc": 2_336_320 + 1,  # and the bias of the response
    "siamrpn": 22_632_932,
    "siamrpn_big": 90_436_132,
    "siamrpnpp_alexnet": 6_251_102,
    "siamrpnpp_mobilenetv2": 11_150_446,
    "siamrpnpp_resnet50": 53_950_624,
    "siamrpnpp_resnet50_otb": 53_950_618,
    "siamrpnpp_resnet50_lt": 60_018_336,
}
ALIKE = ("siamrpnpp_resnet50_otb", "siamrpnpp_resnet50_lt")  # networks of siamrpnpp_resnet50, but for the heads' ends
BGR = [model for model in GOLDEN if model != "siamfc"]


def stored_keys(model):
    return [key for key in oracle.arrays(GOLDEN[model]) if "__" not in key]


@pytest.mark.parametrize("model", [pytest.param(m, marks=[pytest.mark.full] * (m in LARGE)) for m in GOLDEN])
def test_golden_siamese_networks(model):
    found = outputs(model)
    assert set(found) == set(stored_keys(model))
    for key in stored_keys(model):
        oracle.assert_golden(found[key], GOLDEN[model], key, relative=1e-4)


@pytest.mark.parametrize("model", [pytest.param(m, marks=[pytest.mark.full] * (m in ALIKE)) for m in PARAMETERS])
def test_parameter_counts(model):
    leaves = [leaf for path, leaf in flatten_dict(expected(model)).items() if path[1] == "params"]
    assert sum(math.prod(leaf.shape) for leaf in leaves) == PARAMETERS[model]


def numbered(schema):
    """A state dict of the right shapes whose values differ, made in no time; the formula's take seconds."""
    return {
        name: np.resize(np.arange(position + 1, position + 252, dtype=np.float32), shape)
        for position, (name, shape) in enumerate(oracle.schema(schema).items())
    }


SCHEMAS = [(schema, model) for model, schema in GOLDEN.items()] + [*OTHERS.items()]
SCHEMAS = [pytest.param(*pair, marks=[pytest.mark.full] * (pair[1] in ALIKE)) for pair in SCHEMAS]


@pytest.mark.parametrize("schema, model", SCHEMAS)
def test_conversion_uses_every_tensor(schema, model):
    state = numbered(schema)
    params, dropped = from_peer(state, model, schema)
    assert all(name.endswith("num_batches_tracked") for name in dropped)
    leaves = flatten_dict(params)
    assert len(leaves) == len(state) - len(dropped) + (model == "siamfc")
    assert {path: leaf.shape for path, leaf in leaves.items()} == {
        path: leaf.shape for path, leaf in flatten_dict(expected(model)).items()
    }
    total = sum(np.abs(value).sum(dtype=np.float64) for name, value in state.items() if name not in dropped)
    ours = sum(np.abs(leaf).sum(dtype=np.float64) for leaf in leaves.values())
    np.testing.assert_allclose(ours, total, rtol=1e-9)  # every value is there, and once
    assert all(leaf.dtype == np.float32 for leaf in leaves.values())


def test_both_names_of_the_alexnet_give_the_same_parameters():
    """The state of the newer names, with the values of the older ones."""
    old, new = numbered("siamrpn_alex_dwxcorr"), oracle.schema("siamrpn_alex_dwxcorr_16gpu")
    renamed = dict(zip(new, old.values()))  # both lists are in the order of the network
    first, _ = from_peer(old, "siamrpnpp_alexnet", "old")
    second, _ = from_peer(renamed, "siamrpnpp_alexnet", "new")
    jax.tree.map(np.testing.assert_array_equal, first, second)


def test_conversion_lists_every_problem_at_once():
    state = numbered("siamrpn_alex_dwxcorr")
    del state["backbone.features.8.bias"], state["rpn_head.cls.head.3.weight"]
    state["rpn_head.loc.conv_kernel.0.weight"] = np.zeros((256, 256, 1, 1), np.float32)
    state["rpn_head.loc.conv_kernel.7.weight"] = np.zeros(3, np.float32)
    with pytest.raises(WeightsError) as error:
        from_peer(state, "siamrpnpp_alexnet", "source.pth")
    message = str(error.value)
    assert "missing: backbone.features.8.bias, rpn_head.cls.head.3.weight;" in message
    assert "unexpected: rpn_head.loc.conv_kernel.7.weight;" in message
    assert "rpn_head.loc.conv_kernel.0.weight is [256, 256, 1, 1] instead of [256, 256, 3, 3]" in message


@pytest.mark.full
def test_weights_of_levels_fit_no_model_without_them():
    with pytest.raises(WeightsError, match=r"unexpected: rpn_head\.cls_weight, rpn_head\.loc_weight$"):
        from_peer(numbered("siamrpn_r50_l234_dwxcorr"), "siamrpnpp_resnet50_otb", "source.pth")


@pytest.mark.parametrize("model", ["siamfc", "siamrpnpp_alexnet"])
def test_conversion_goes_through_the_command(model, tmp_path, capsys):
    np.savez(tmp_path / "peer.npz", **oracle.weights(GOLDEN[model]))
    destination = tmp_path / "ours.safetensors"
    assert convert.main([str(tmp_path / "peer.npz"), str(destination), "--model", model]) == 0
    jax.tree.map(np.testing.assert_array_equal, files.load(destination, expected(model)), parameters(model))
    info = files.read_metadata(destination)["info"]
    assert info["input"] == "RGB 0..255, raw"
    assert info["batch_norm_epsilon"] == (1e-6 if model == "siamfc" else 1e-5)
    assert f"{sum(leaf.size for leaf in jax.tree.leaves(parameters(model))):,} parameters" in capsys.readouterr().out


def off(model, key, actual):
    """The relative L2 distance of `actual`, in the oracle's layout, from a stored array."""
    stored = oracle.arrays(GOLDEN[model])
    steps = stored.get(f"{key}__stride", (1,) * actual.ndim)
    return oracle.relative_l2(np.asarray(actual)[tuple(slice(None, None, int(step)) for step in steps)], stored[key])


@pytest.mark.parametrize("model", ["siamrpn", "siamrpnpp_mobilenetv2"])
def test_golden_taps_are_off_with_the_colors_of_the_peer(model):
    """The references' images are BGR, ours RGB: without the exchange the golden number is missed."""
    key = "feat_z" if model == "siamrpn" else "backbone_z_level2"
    taps = backbone(model)(parameters(model)["backbone"], images(model, "z")[..., ::-1])
    assert off(model, key, channels_first(taps[0])) > 1e-2


def test_golden_taps_are_off_with_another_dilation(monkeypatch):
    layers = [(*layer[:4], min(layer[4], 2)) for layer in mobilenet.LAYERS]
    monkeypatch.setattr(mobilenet, "LAYERS", tuple(layers))
    taps = jax.jit(MobileNetV2(1.4).apply)(
        parameters("siamrpnpp_mobilenetv2")["backbone"], images("siamrpnpp_mobilenetv2", "z")
    )
    assert off("siamrpnpp_mobilenetv2", "backbone_z_level3", channels_first(taps[1])) < 1e-4
    assert off("siamrpnpp_mobilenetv2", "backbone_z_level4", channels_first(taps[2])) > 1e-2


def test_golden_necks_are_off_with_another_crop():
    model = "siamrpnpp_mobilenetv2"
    whole = models.networks(model)["neck"].apply(parameters(model)["neck"], taps(model, "z"))[0]
    middle = (whole.shape[1] - 7) // 2
    assert middle > 0
    for start in (middle - 1, middle, middle + 1):
        distance = off(model, "neck_z_level2", channels_first(whole[:, start : start + 7, start : start + 7]))
        assert distance < 1e-4 if start == middle else distance > 1e-2


def test_golden_scores_are_off_with_the_anchors_outside():
    """Channel c k + a of the reference implementations is class c of anchor a."""
    cls = match("siamrpnpp_alexnet")[0]
    swapped = np.moveaxis(np.asarray(cls), -1, -2).reshape(*cls.shape[:-2], -1)
    assert off("siamrpnpp_alexnet", "cls", channels_first(swapped)) > 1e-2


def test_the_three_functions_of_a_model_give_the_golden_scores():
    model = "siamrpnpp_alexnet"
    network = siamese.make(model)

    @jax.jit
    def run(params, z, x):
        return network.correlate(params, network.embed(params, z), network.features(params, x).search)

    for key, maps in zip(("cls", "loc"), run(parameters(model), images(model, "z"), images(model, "x"))):
        joined = channels_first(maps.reshape(*maps.shape[:-2], -1))
        oracle.assert_golden(joined, GOLDEN[model], key, relative=1e-4)


def test_many_templates_meet_one_search_region_behind_a_neck():
    model = "siamrpnpp_mobilenetv2_1.0"
    network = siamese.make(model)
    templates = jax.eval_shape(network.embed, expected(model), jnp.zeros((3, 127, 127, 3)))
    assert {leaf.shape for leaf in jax.tree.leaves(templates)} == {(3, 5, 5, 256)}
    regions = jax.eval_shape(network.features, expected(model), jnp.zeros((1, 255, 255, 3)))
    assert [tap.shape for tap in regions.taps] == [(1, 31, 31, 256)] * 3
    cls, loc = jax.eval_shape(network.correlate, expected(model), templates, regions.search)
    assert cls.shape == (3, 25, 25, 2, 5) and loc.shape == (3, 25, 25, 4, 5)


def head_of(kind):
    """(a small head, templates [3, ..], a search region [1, ..], its variables)."""
    rng = np.random.default_rng(5)

    def draw(*shape):
        return jnp.asarray(rng.normal(size=shape), jnp.float32)

    head = {
        "siamfc": SiamFCHead(),
        "up-channel": UpChannelRPN(6, anchors=2),
        "depthwise": DepthwiseRPN((4, 6), weighted=True, anchors=2),
    }[kind]
    channels = (4, 6) if kind == "depthwise" else (6,)
    z, x = (tuple(draw(n, size, size, c) for c in channels) for n, size in ((3, 5), (1, 9)))
    shapes = jax.eval_shape(head.init, jax.random.key(0), z, x)
    variables = jax.tree_util.tree_map_with_path(
        lambda path, leaf: jnp.abs(draw(*leaf.shape)) + 0.5 if path[-1].key == "var" else 0.3 * draw(*leaf.shape),
        shapes,
    )
    return head, z, x, variables


@pytest.mark.parametrize("kind", ["siamfc", "up-channel", "depthwise"])
def test_templates_with_a_leading_axis_equal_vmap_and_a_loop(kind):
    head, z, x, variables = head_of(kind)
    apply = partial(head.apply, variables)

    @jax.jit
    def run(z, x):
        templates, search = apply(z, method="template"), apply(x, method="search")
        one = jax.tree.map(lambda leaf: leaf[0], search)
        several = jax.vmap(lambda template: apply(template, one, method="correlate"))(templates)
        return apply(templates, x, method="match"), apply(templates, search, method="correlate"), several

    ways = run(z, x)
    loop = [jax.jit(apply)(jax.tree.map(lambda leaf, k=k: leaf[k : k + 1], z), x) for k in range(3)]
    loop = jax.tree.map(lambda *leaves: jnp.concatenate(leaves), *loop)
    for way in ways:
        jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-5), way, loop)
    if kind != "siamfc":
        assert loop[0].shape[-2:] == (2, 2) and loop[1].shape[-2:] == (4, 2)


R50 = pytest.param("siamrpnpp_resnet50", marks=pytest.mark.full)


@pytest.mark.parametrize("model", ["siamfc", "siamrpn", "siamrpnpp_mobilenetv2_1.0", R50])
def test_every_part_has_train(model):
    """With batch statistics the collection changes for every layer of batch normalization, and nothing else does."""
    parts = models.networks(model)
    shapes = expected(model)

    def run(variables):
        def step(part, *args, method=None):
            out, new = parts[part].apply(variables[part], *args, train=True, method=method, mutable=["batch_stats"])
            changed.setdefault(part, []).append(new.get("batch_stats", {}))
            return out

        changed = {}
        z, x = (step("backbone", jnp.ones((2, size, size, 3))) for size in (127, 135))
        if "neck" in parts:
            z, x = step("neck", z, method="template"), step("neck", x)
        step("head", z, x)
        return changed

    changed = jax.eval_shape(run, shapes)
    for part, variables in shapes.items():
        for new in changed[part]:
            assert jax.tree.structure(new) == jax.tree.structure(variables.get("batch_stats", {}))


def test_training_moves_the_statistics():
    model = "siamrpnpp_alexnet"
    network, variables = models.networks(model)["backbone"], parameters(model)["backbone"]
    batch = jnp.concatenate([images(model, "z"), images(model, "z")[:, ::-1]])
    train = jax.jit(partial(network.apply, train=True, mutable=["batch_stats"]))
    (trained,), new = train(variables, batch)
    before, after = variables["batch_stats"], new["batch_stats"]
    assert all(np.all(a != b) for a, b in zip(jax.tree.leaves(after), jax.tree.leaves(before)))
    assert not np.allclose(trained, jax.jit(network.apply)(variables, batch)[0], atol=0.1)
    # the last layer is a batch normalization: its output has the batch mean `bias`
    np.testing.assert_allclose(jnp.mean(trained, (0, 1, 2)), variables["params"]["bn5"]["bias"], atol=1e-3)


def imagenet_mobilenet():
    """Random tensors under the names of the ImageNet file: an id for each convolution, ReLU6 and sum."""
    rng = np.random.default_rng(0)
    state, layers = {}, [(0, (32, 3, 3, 3)), (2, (32, 1, 3, 3)), (4, (16, 32, 1, 1))]
    operation, inputs = 5, 16
    for features, blocks in ((24, 2), (32, 3), (64, 4), (96, 3), (160, 3), (320, 1)):
        for _ in range(blocks):
            hidden = 6 * inputs
            layers += [(operation, (hidden, inputs, 1, 1)), (operation + 2, (hidden, 1, 3, 3))]
            layers += [(operation + 4, (features, hidden, 1, 1))]
            operation += 5 + (inputs == features)
            inputs = features
    layers.append((operation, (1280, 320, 1, 1)))
    for identifier, shape in layers:
        scale = np.sqrt(2 / np.prod(shape[1:]))
        state[f"conv_{identifier}_weight"] = (scale * rng.normal(size=shape)).astype(np.float16)
        state[f"conv_{identifier}_bias"] = (0.1 * rng.normal(size=shape[0])).astype(np.float16)
    return {**state, "gemm_104_bias": np.zeros(1000, np.float16)}


def test_imagenet_start_of_the_mobilenet(rng):
    """The first layers on raw images equal the plain network of convolutions with bias on normalized ones."""
    state = imagenet_mobilenet()
    params, dropped = from_peer(state, "mobilenetv2", "source")
    assert dropped == ["conv_95_bias", "conv_95_weight", "gemm_104_bias"]
    image = jnp.asarray(rng.uniform(0, 255, (1, 63, 63, 3)), jnp.float32)
    capture = partial(MobileNetV2().apply, capture_intermediates=lambda module, _: module.name == "layer2_0")
    _, captured = jax.jit(capture)(params["backbone"], image)

    def conv(x, identifier, stride=1, padding=0):
        kernel = state[f"conv_{identifier}_weight"].astype(np.float32).transpose(2, 3, 1, 0)
        groups = x.shape[-1] if kernel.shape[2] == 1 else 1
        y = jax.lax.conv_general_dilated(
            x,
            kernel,
            (stride, stride),
            ((padding, padding),) * 2,
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
            feature_group_count=groups,
        )
        return y + state[f"conv_{identifier}_bias"].astype(np.float32).reshape(1, 1, 1, -1)

    x = jnp.clip(conv(resnet.normalize(image), 0, 2), 0, 6)
    x = conv(jnp.clip(conv(x, 2, 1, 1), 0, 6), 4)
    x = conv(jnp.clip(conv(jnp.clip(conv(x, 5), 0, 6), 7, 2), 0, 6), 9)
    found = captured["intermediates"]["layer2_0"]["__call__"][0]
    np.testing.assert_allclose(found, x, atol=1e-4 * np.abs(x).max())
    kernel = params["backbone"]["params"]["layer7_0"]["project"]["kernel"]
    np.testing.assert_array_equal(kernel, state["conv_94_weight"].transpose(2, 3, 1, 0))
    del state["conv_33_weight"]
    with pytest.raises(WeightsError, match=r"missing: conv_33_weight$"):
        from_peer(state, "mobilenetv2", "source")


@pytest.mark.skipif(not SHARED.is_dir(), reason="needs the ImageNet backbones in ../shared/weights")
def test_convert_of_the_imagenet_mobilenet(tmp_path):
    file, path = SHARED / "mobilenetv2_1.0_imagenet_bnfolded_fp16.npz", tmp_path / "mobilenetv2.safetensors"
    assert convert.main([str(file), str(path), "--model", "mobilenetv2"]) == 0
    loaded = files.load(path, expected("mobilenetv2"))["backbone"]["params"]
    assert "folded into the first convolution" in files.read_metadata(path)["info"]["input"]
    with np.load(file) as state:
        np.testing.assert_array_equal(loaded["layer7_0"]["project_bn"]["bias"], state["conv_94_bias"])
        white = state["conv_0_weight"].astype(np.float64)[:, 1].sum((1, 2)) / resnet.IMAGENET_STD[1]
    ours = loaded["conv0"]["kernel"][:, :, 1].sum((0, 1)) * 255
    np.testing.assert_allclose(ours, white, rtol=1e-5, atol=1e-5)


@lru_cache
def expected(model):
    return models.expected_variables(model)


@lru_cache
def parameters(model):
    return from_peer(oracle.weights(GOLDEN[model]), model, model)[0]


@lru_cache
def images(model, kind):
    """`[N, H, W, 3]`, RGB."""
    settings = oracle.settings()
    if model == "siamfc":
        counts = {"z": settings["siamfc"]["templates"], "x": settings["siamfc"]["searches"]}
        sizes = {"z": settings["siamfc"]["template_size"], "x": settings["siamfc"]["search_size"]}
        family, count = "siamfc", counts[kind]
    elif model.startswith("siamrpnpp"):
        sizes = {"z": settings["pysot"]["template_size"], "x": settings["pysot"]["search_size"][GOLDEN[model]]}
        family, count = "pysot", settings["pysot"]["batch"]
    else:
        sizes = {kind: settings[GOLDEN[model]][f"{name}_size"] for kind, name in (("z", "template"), ("x", "search"))}
        family, count = "dasiam", 1
    channels_first = formula.image(oracle.salt(), f"{family}/{kind}", (count, 3, sizes[kind], sizes[kind]))
    last = channels_first.transpose(0, 2, 3, 1)
    return last[..., ::-1] if model in BGR else last


@lru_cache
def backbone(model):
    return jax.jit(models.networks(model)["backbone"].apply)


@lru_cache
def taps(model, kind):
    return backbone(model)(parameters(model)["backbone"], images(model, kind))


@lru_cache
def match(model):
    """The head's outputs, from the backbone's taps of template and search region."""
    return heads(model)["out"]


@lru_cache
def heads(model):
    parts, params = models.networks(model), parameters(model)

    @jax.jit
    def run(params, z, x):
        found = {}
        if "neck" in parts:
            z = parts["neck"].apply(params["neck"], z, method="template")
            x = parts["neck"].apply(params["neck"], x)
            found |= {"z": z, "x": x}
        apply = partial(parts["head"].apply, params["head"])
        found["template"] = apply(z, method="template")
        return found | {"out": apply(found["template"], x, method="match")}

    return run({part: params[part] for part in parts if part != "backbone"}, taps(model, "z"), taps(model, "x"))


def outputs(model):
    """The arrays of the oracle's file of `model`, in its layout."""
    z, x = ([channels_first(tap) for tap in taps(model, kind)] for kind in ("z", "x"))
    if model == "siamfc":
        return {"feat_z": z[0], "feat_x": x[0], "response": np.asarray(heads(model)["out"])[:, None]}
    found = heads(model)
    cls, loc = (channels_first(maps.reshape(*maps.shape[:-2], -1)) for maps in found["out"])
    result = {"cls": cls, "loc": loc}
    if model.startswith("siamrpnpp"):
        levels = [f"_level{level}" for level in (2, 3, 4)] if len(z) > 1 else [""]
        for kind, maps in (("z", z), ("x", x)):
            result |= {f"backbone_{kind}{level}": tap for level, tap in zip(levels, maps)}
            if kind in found:
                result |= {f"neck_{kind}{level}": channels_first(tap) for level, tap in zip(levels, found[kind])}
        return result
    kernels = {"r1_kernel": found["template"].loc, "cls1_kernel": found["template"].cls}
    result |= {key: np.asarray(value)[0].transpose(3, 2, 0, 1) for key, value in kernels.items()}
    return result | {"feat_z": z[0], "feat_x": x[0]}


def channels_first(array):
    return np.moveaxis(np.asarray(array), -1, 1)
