"""Files of weights as others publish them, given to `load`, to commands and to training as they are."""

from dataclasses import replace

import jax
import numpy as np
import pytest
import safetensors.numpy
from flax.traverse_util import flatten_dict

import trackers
from eval import convert, settings
from tests.helpers import torch_files
from trackers.nets import alexnet, models
from trackers.nets.dimp_classifier import DimpClassifier
from trackers.nets.iou_net import IoUNet
from trackers.nets.mobilenet import LAYERS
from trackers.weights import WeightsError, files, heads, released, sources
from trackers.weights.convert import from_peer, to_peer
from trackers.weights.torch_reader import read_state_dict
from train.run import initial_params


def random_params(model, seed=0):
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda leaf: rng.random(leaf.shape, np.float32), models.expected_variables(model))


def state_of(model):
    return to_peer(random_params(model), model, "ours").state


def write(path, state):
    """A checkpoint of the form that the suffix names."""
    if path.suffix == ".safetensors":
        safetensors.numpy.save_file({name: np.asarray(value, order="C") for name, value in state.items()}, path)
    elif path.suffix == ".npz":
        np.savez(path, **state)
    else:
        with torch_files.writer(path) as writer:
            tensors = {name: writer.tensor(np.asarray(value)) for name, value in state.items()}
            writer.write("zip", {"net": writer.state_dict(tensors)})
    return path


@pytest.mark.parametrize("name", ["siamfc_alexnet_e50.pth", "state.npz", "peer.safetensors"])
def test_a_reference_checkpoint_loads_as_its_converted_file_does(name, tmp_path):
    source, converted = write(tmp_path / name, state_of("siamfc")), tmp_path / "converted"
    convert.convert(source, converted, "siamfc")
    direct = trackers.load_params("siamfc", source)
    assert settings.params_hash(direct) == settings.params_hash(trackers.load_params("siamfc", converted))
    _, params = trackers.load("thor_siamfc", str(source))  # a tracker with the same networks
    assert settings.params_hash(params) == settings.params_hash(direct)


def test_half_precision_and_bfloat16_of_others_are_read(tmp_path):
    state = state_of("siamfc")
    for kind in (np.float16, np.float64):
        file = write(tmp_path / "x.safetensors", {name: value.astype(kind) for name, value in state.items()})
        read = trackers.load_params("siamfc", file)
        expected = np.float32(state["backbone.conv1.0.bias"].astype(kind))
        np.testing.assert_array_equal(read["backbone"]["params"]["conv1"]["bias"], expected)
        assert expected.dtype == read["backbone"]["params"]["conv1"]["bias"].dtype
    file = tmp_path / "brain.safetensors"
    head = b'{"a":{"dtype":"BF16","shape":[2],"data_offsets":[0,4]}}'
    file.write_bytes(len(head).to_bytes(8, "little") + head + b"\x80\x3f\x00\x40")
    assert np.float32(read_state_dict(file)["a"]).tolist() == [1, 2]


@pytest.fixture
def small_dimp(monkeypatch, tmp_path):
    """DiMP-18 with a narrow IoU-Net and classifier, heads of it as released, and the backbone that they belong to."""
    parts = {"backbone": models.networks("atom_multiscale")["backbone"]}
    parts |= {"classifier": DimpClassifier(1, 8), "iou_net": IoUNet(8)}
    monkeypatch.setitem(models._MODELS, "dimp18", replace(models.get("dimp18"), parts=parts))
    params = random_params("dimp18")
    kept = {part: params[part] for part in ("classifier", "iou_net")}
    monkeypatch.setattr(
        heads, "responses", lambda _, backbone: [float(np.sum(backbone["params"]["conv1"]["kernel"]))] * 32
    )
    info = {"parts": list(kept), "backbone": heads.identify("dimp18", params["backbone"])}
    files.save(tmp_path / "heads.safetensors", kept, model="dimp18", info=info)
    monkeypatch.setattr(released, "heads", lambda model: tmp_path / "heads.safetensors" if model == "dimp18" else None)
    return params


def test_weights_that_come_with_another_model():
    small, whole = trackers.load_params("atom_multiscale_small"), trackers.load_params("dimp_tiny")
    assert list(small) == ["backbone"]
    assert settings.params_hash(small) == settings.params_hash({"backbone": whole["backbone"]})


def test_a_backbone_that_was_kept_alone(tmp_path):
    """As `train.release --parts backbone` writes it: for a tracker, and to distill it further."""
    file, kept = tmp_path / "backbone.safetensors", {"backbone": trackers.load_params("dimp_tiny")["backbone"]}
    files.save(file, kept, model="distilled_resnet16", info={"parts": ["backbone"]})
    for found in (trackers.load_params("atom_multiscale_small", file), sources.parts(file, "distilled_resnet16")):
        assert settings.params_hash(found) == settings.params_hash(kept)


def torchvision(params):
    return to_peer({"backbone": params["backbone"]}, "atom_multiscale", "ours").state


def test_a_public_backbone_meets_the_heads_of_the_package(small_dimp, tmp_path):
    """torchvision's, and the file of this project that was made of it; the same as one file of both."""
    public = write(tmp_path / "resnet18.pth", torchvision(small_dimp))
    ours, joined = tmp_path / "r18.safetensors", tmp_path / "joined.safetensors"
    convert.convert(public, ours, "atom_multiscale")
    convert.convert(ours, joined, "dimp18")
    expected = settings.params_hash(small_dimp)
    for file in (public, ours, joined):
        assert settings.params_hash(trackers.load_params("dimp18_heads", file)) == expected
    alone = trackers.load_params("atom_multiscale", joined)
    assert list(alone) == ["backbone"]
    assert settings.params_hash(alone) == settings.params_hash({"backbone": small_dimp["backbone"]})
    with pytest.raises(WeightsError, match=r"heads\.safetensors: made for model dimp18; needed is atom_multiscale$"):
        trackers.load_params("atom_multiscale", tmp_path / "heads.safetensors")
    assert files.read_metadata(joined)["info"]["heads"]["source"] == "heads.safetensors"
    with pytest.raises(WeightsError, match=r"joined\.safetensors: is a file of dimp18 already; nothing to convert"):
        convert.convert(joined, tmp_path / "again", "dimp18")
    other = {**small_dimp, "backbone": jax.tree.map(lambda leaf: 2 * leaf, small_dimp["backbone"])}
    with pytest.raises(WeightsError, match=r"trained on another backbone than .*other\.pth"):
        trackers.load_params("dimp18", write(tmp_path / "other.pth", torchvision(other)))
    with pytest.raises(WeightsError, match=r"a backbone alone, and no iou_net of atom come with the package; join: .*"):
        trackers.load_params("atom", public)


@pytest.mark.parametrize(
    ("tracker", "model", "message"),
    [
        (
            "siamfc",
            "atom_multiscale",
            r"holds 102 tensors \(bn1, conv1, fc, layer1, \.\.\.\), and nothing of siamfc, whi",
        ),
        ("dimp_tiny", "atom_multiscale", "dimp_tiny is of this project alone, and takes files of this project alone"),
        ("atom_filterbank", "siamfc", "atom_filterbank is built by code and takes no weights"),
    ],
)
def test_what_fits_no_tracker_is_one_line(tracker, model, message, tmp_path):
    file = write(tmp_path / "theirs.npz", state_of(model))
    with pytest.raises(WeightsError, match=rf"theirs\.npz: .*{message}") as error:
        trackers.load_params(tracker, file)
    assert "\n" not in str(error.value)


def test_files_of_this_project_for_something_else_are_one_line(tmp_path):
    files.save(tmp_path / "r18", random_params("atom_multiscale"), model="atom_multiscale")
    for tracker, file, message in (
        ("siamfc", tmp_path / "r18", "made for model atom_multiscale; needed is siamfc$"),
        ("dimp18", released.heads("dimp18"), "heads without a backbone; join them: python -m eval.convert BACKBONE"),
        ("dimp18", tmp_path / "none.pth", "none.pth: no such file"),
        ("dimp18", tmp_path, "cannot be read: Is a directory"),
        ("memtrack", tmp_path / "model.index", "a checkpoint of TensorFlow; eval.convert reads it"),
    ):
        (tmp_path / "model.index").write_bytes(b"index")
        with pytest.raises(WeightsError, match=message) as error:
            trackers.load_params(tracker, file)
        assert "\n" not in str(error.value)


def test_training_starts_from_them(small_dimp, tmp_path):
    """A whole checkpoint gives all parts, a backbone alone its own; siamfc-pytorch's is made into MemTrack's."""
    public = write(tmp_path / "resnet18.pth", torchvision(small_dimp))
    jax.tree.map(np.testing.assert_array_equal, sources.parts(public, "dimp18"), {"backbone": small_dimp["backbone"]})
    ours = tmp_path / "r18.safetensors"
    convert.convert(public, ours, "atom_multiscale")
    jax.tree.map(np.testing.assert_array_equal, sources.parts(ours, "dimp18"), sources.parts(public, "dimp18"))
    whole = write(tmp_path / "siamfc.npz", state_of("siamfc"))
    found = sources.parts(whole, "siamfc")
    assert set(found) == {"backbone", "head"}
    backbone = sources.parts(whole, "memtrack")
    jax.tree.map(np.testing.assert_array_equal, backbone, {"backbone": alexnet.memtrack_from_siamfc(found["backbone"])})
    for model, message in (("dimp_tiny", "is of this project alone"), ("dimp18", "and nothing of dimp18")):
        with pytest.raises(WeightsError, match=rf"siamfc\.npz: .*{message}"):
            sources.parts(whole, model)


@pytest.mark.full
def test_the_parts_that_a_file_does_not_have_are_random(small_dimp, tmp_path):
    start = initial_params("dimp18", 0, write(tmp_path / "resnet18.pth", torchvision(small_dimp)))
    jax.tree.map(np.testing.assert_array_equal, start["backbone"], small_dimp["backbone"])
    fresh = initial_params("dimp18", 0, None)
    jax.tree.map(np.testing.assert_array_equal, start["iou_net"], fresh["iou_net"])


@pytest.mark.full
def test_a_backbone_of_pysot_alone_starts_a_training(tmp_path):
    state = state_of("siamrpnpp_alexnet")
    alone = {name: value for name, value in state.items() if name.startswith("backbone.")}
    found = sources.parts(write(tmp_path / "alexnet.pth", alone), "siamrpnpp_alexnet")
    expected = random_params("siamrpnpp_alexnet")
    jax.tree.map(np.testing.assert_array_equal, found, {"backbone": expected["backbone"]})


@pytest.mark.full
def test_the_two_forms_of_mobilenetv2_give_the_same_features(rng):
    """torchvision's explicit batch normalization, and the same folded into biases."""
    explicit, folded = mobilenet_states(rng)
    images = rng.uniform(0, 255, (1, 63, 63, 3)).astype(np.float32)
    network = jax.jit(models.networks("mobilenetv2")["backbone"].apply)
    (one, dropped), (two, _) = (from_peer(state, "mobilenetv2", "theirs") for state in (explicit, folded))
    assert {"classifier.1.bias", "features.18.0.weight", "features.0.1.num_batches_tracked"} <= set(dropped)
    assert len(flatten_dict(one)) == len(flatten_dict(two))
    for theirs, ours in zip(network(one["backbone"], images), network(two["backbone"], images)):
        np.testing.assert_allclose(theirs, ours, rtol=1e-3, atol=1e-4 * float(np.abs(ours).max()))


def mobilenet_states(rng):
    """A random MobileNetV2 under torchvision's names, and the same as convolutions with bias by number."""
    explicit, folded = {}, {}

    def add(name, norm, number, shape):
        outputs = shape[0]
        kernel = rng.normal(size=shape).astype(np.float32) * np.float32(np.sqrt(2 / np.prod(shape[1:])))
        scale, bias, mean = 1 + 0.1 * rng.random(outputs), rng.normal(size=outputs), rng.normal(size=outputs)
        variance = 0.5 + rng.random(outputs)
        leaves = {"weight": scale, "bias": bias, "running_mean": mean, "running_var": variance}
        explicit[f"{name}.weight"] = kernel
        explicit.update({f"{norm}.{leaf}": value.astype(np.float32) for leaf, value in leaves.items()})
        explicit[f"{norm}.num_batches_tracked"] = np.int64(3).reshape(())
        factor = scale / np.sqrt(variance + 1e-5)
        folded[f"conv_{number}_weight"] = (kernel * factor[:, None, None, None]).astype(np.float32)
        folded[f"conv_{number}_bias"] = (bias - mean * factor).astype(np.float32)

    add("features.0.0", "features.0.1", 0, (32, 3, 3, 3))
    number, index, channels = 2, 1, 32
    for expansion, features, blocks, _, _ in LAYERS:
        for _ in range(blocks):
            at, wide = f"features.{index}.conv", channels * expansion
            if expansion > 1:
                add(f"{at}.0.0", f"{at}.0.1", number, (wide, channels, 1, 1))
                number += 2
            step = int(expansion > 1)
            add(f"{at}.{step}.0", f"{at}.{step}.1", number, (wide, 1, 3, 3))
            add(f"{at}.{step + 1}", f"{at}.{step + 2}", number + 2, (features, wide, 1, 1))
            number += 3 + (channels == features)
            index, channels = index + 1, features
    add("features.18.0", "features.18.1", number, (1280, 320, 1, 1))
    explicit |= {"classifier.1.weight": np.zeros((1000, 1280)), "classifier.1.bias": np.zeros(1000)}
    return explicit, folded
