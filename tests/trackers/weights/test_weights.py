"""Parameter files, the reader of PyTorch checkpoints, the name maps and `python -m eval.convert`.

The checkpoints are written by `tests.helpers.torch_files`, in both layouts of `torch.save`.
"""

import json
import os
import pickle
import signal
import subprocess
import sys
import zipfile
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy
from flax.traverse_util import flatten_dict

from eval import convert
from tests.helpers import places, torch_files
from tests.helpers.torch_files import LAYOUTS
from trackers.nets import models
from trackers.nets.resnet import ResNet
from trackers.weights import WeightsError, files, heads
from trackers.weights.convert import from_peer
from trackers.weights.peers import pytracking
from trackers.weights.torch_reader import read_state_dict

SHARED = places.SHARED / "weights"


@pytest.mark.parametrize("layout", LAYOUTS)
def test_reader_reproduces_every_tensor(layout, checkpoint, rng):
    base = rng.normal(size=(6, 8)).astype(np.float32)
    storage = checkpoint.storage(base)
    state = {
        "plain": checkpoint.tensor(rng.normal(size=(2, 3)).astype(np.float32)),
        "half": checkpoint.tensor(rng.normal(size=5).astype(np.float16)),
        "double": checkpoint.tensor(rng.normal(size=(1, 2, 1))),
        "counter": checkpoint.tensor(np.array(7, np.int64)),
        "flags": checkpoint.tensor(np.array([True, False])),
        "empty": checkpoint.tensor(np.zeros((0, 3), np.float32)),
        "cuda": checkpoint.tensor(np.arange(4, dtype=np.float32), module="torch.cuda"),
        "view": checkpoint.view(storage, 9, (3, 2), (2, 8)),  # a transposed slice with steps
        "same_storage": checkpoint.view(storage, 0, (6, 8), (8, 1)),
        "parameter": checkpoint.parameter(rng.normal(size=3).astype(np.float32)),
    }
    read = read_state_dict(checkpoint.write(layout, {"epoch": 3, "net": checkpoint.state_dict(state)}))
    expected = {name: value.array for name, value in state.items()}
    assert read.keys() == expected.keys()
    for name, value in read.items():
        assert value.dtype == expected[name].dtype
        np.testing.assert_array_equal(value, expected[name], err_msg=name)
    np.testing.assert_array_equal(read["view"], base.reshape(-1)[[[9, 17], [11, 19], [13, 21]]])


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("outer", ["net", "state_dict", None])
def test_reader_finds_the_state_dict_and_strips_module(layout, outer, checkpoint):
    state = {"module.a.weight": checkpoint.tensor(np.ones((2, 2), np.float32))}
    content = {"epoch": 1, outer: state} if outer else state
    assert list(read_state_dict(checkpoint.write(layout, content))) == ["a.weight"]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_reader_ignores_unknown_classes_and_runs_nothing(layout, checkpoint, tmp_path):
    touched = tmp_path / "touched"
    state = {"a": checkpoint.tensor(np.ones(2, np.float32))}
    content = {
        "constructor": checkpoint.alien({"fun_name": "dimpnet50", "args": [1, 2]}),
        "settings": {"nested": [checkpoint.alien({}), checkpoint.alien_dict({"key": 1})]},
        "attack": checkpoint.call(os.system, f"touch {touched}"),
        "attack_2": checkpoint.call(eval, f"open({str(touched)!r}, 'w')"),
        "net": state,
    }
    path = checkpoint.write(layout, content)
    assert b"system" in path.read_bytes()
    np.testing.assert_array_equal(read_state_dict(path)["a"], np.ones(2))
    assert not touched.exists()
    pickle.loads(pickle.dumps(content["attack"], protocol=2))
    assert touched.exists()  # so it was a live attack


@pytest.mark.parametrize("layout", LAYOUTS)
def test_reader_reads_python_2_strings(layout, checkpoint):
    content = {
        "conv.weight": checkpoint.tensor(np.ones(3, np.float32)),
        "caf\xe9": checkpoint.tensor(np.ones(1)),
    }
    assert list(read_state_dict(checkpoint.write(layout, content, python2=True))) == [
        "conv.weight",
        "caf\xe9",
    ]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_reader_reports_bad_tensors(layout, checkpoint):
    storage = checkpoint.storage(np.zeros(6, np.float32))
    for shape, strides, offset in (((3, 3), (3, 1), 0), ((6,), (1,), 1), ((2,), (-1,), 3), ((2, 2), (1,), 0)):
        bad = checkpoint.view(storage, offset, shape, strides, check=False)
        with pytest.raises(WeightsError, match=r"checkpoint\.pth.*(beyond its storage|impossible)"):
            read_state_dict(checkpoint.write(layout, {"a": bad}))
    with pytest.raises(WeightsError, match="no state dict"):
        read_state_dict(checkpoint.write(layout, {"a": checkpoint.call(os.getcwd)}))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_reader_fails_cleanly_on_every_truncation_and_on_damage(layout, checkpoint, rng):
    path = checkpoint.write(layout, {"net": {"a": checkpoint.tensor(np.arange(50.0))}, "x": checkpoint.alien({})})
    data = path.read_bytes()
    for length in range(0, len(data), 7):
        path.write_bytes(data[:length])
        with pytest.raises(WeightsError, match=r"checkpoint\.pth: "):
            read_state_dict(path)
    readable = 0
    for _ in range(200):
        damaged = bytearray(data)
        damaged[rng.integers(len(data))] ^= 1 << rng.integers(8)
        path.write_bytes(damaged)
        try:
            readable += "a" in read_state_dict(path)
        except WeightsError as error:
            assert str(path) in str(error) and "\n" not in str(error)
    assert readable < 200


def test_reader_refuses_other_files(tmp_path):
    with pytest.raises(WeightsError, match=r"none\.pth: cannot be read: No such file"):
        read_state_dict(tmp_path / "none.pth")
    with pytest.raises(WeightsError, match="cannot be read: Is a directory"):
        read_state_dict(tmp_path)
    for content in (b"", b"just text", pickle.dumps([1, 2], protocol=2)):
        (tmp_path / "other").write_bytes(content)
        with pytest.raises(WeightsError, match=r"not a PyTorch|not of torch\.save"):
            read_state_dict(tmp_path / "other")
    with zipfile.ZipFile(tmp_path / "other.zip", "w") as archive:
        archive.writestr("a.txt", "text")
    with pytest.raises(WeightsError, match="a zip file, but neither"):
        read_state_dict(tmp_path / "other.zip")
    np.savez(tmp_path / "objects.npz", a=np.array([{}], object))
    with pytest.raises(WeightsError, match=r"objects\.npz: damaged or not a checkpoint"):
        read_state_dict(tmp_path / "objects.npz")


@pytest.mark.parametrize("model", ["atom_multiscale", "dimp18"])
def test_parameter_file_round_trip(model, tmp_path, rng):
    expected = models.expected_variables(model)
    params = jax.tree.map(lambda leaf: rng.random(leaf.shape, np.float32), expected)
    path = tmp_path / "params.safetensors"
    info = {"config": {"depth": 18, "rate": 0.1}, "dropped": ["a"]}
    files.save(path, params, model=model, info=info)
    loaded = files.load(path, expected)
    assert jax.tree.structure(loaded) == jax.tree.structure(params)
    jax.tree.map(np.testing.assert_array_equal, loaded, params)
    metadata = files.read_metadata(path)
    assert (metadata["model"], metadata["info"]) == (model, info)
    assert metadata["versions"]["jax"] == jax.__version__
    written = path.read_bytes()
    files.save(path, loaded, model=model, info=info)
    assert path.read_bytes() == written
    assert os.listdir(tmp_path) == ["params.safetensors"]


def test_parameter_file_is_strict(tmp_path):
    expected = {
        "a": {"x": np.zeros((2, 3), np.float32), "y": np.zeros(4, np.float32)},
        "b": np.zeros(1, np.float32),
    }
    path = tmp_path / "p.safetensors"
    found = {
        "a": {"x": np.zeros((3, 2), np.float32)},
        "b": np.zeros(1, np.float64),
        "c": np.zeros(1, np.float32),
    }
    files.save(path, found, model="test")
    with pytest.raises(WeightsError) as error:
        files.load(path, expected)
    message = str(error.value)
    assert "\n" not in message and str(path) in message
    assert "missing: a/y;" in message and "unexpected: c;" in message
    assert "a/x is F32[3, 2] instead of F32[2, 3]" in message and "b is F64[1] instead of F32[1]" in message


def test_parameter_file_reports_damage(tmp_path):
    params = {"a": np.arange(100, dtype=np.float32)}
    path = tmp_path / "p.safetensors"
    files.save(path, params, model="test")
    data = path.read_bytes()
    for damaged in (data[:-1], data[:50], b"", b"text", b"\xff" * 100):
        path.write_bytes(damaged)
        with pytest.raises(WeightsError, match=r"p\.safetensors: not a safetensors file, or damaged"):
            files.load(path, params)
    path.write_bytes(data[:-3] + b"\x01" + data[-2:])
    with pytest.raises(WeightsError, match=r"p\.safetensors: damaged, the checksum is wrong of a$"):
        files.load(path, params)
    with pytest.raises(WeightsError, match="none: no such file"):
        files.load(tmp_path / "none", params)
    with pytest.raises(WeightsError, match="cannot be read"):
        files.load(tmp_path, params)
    path.write_bytes(safetensors.numpy.save(params))
    for read in (files.read_metadata, partial(files.load, expected=params)):
        with pytest.raises(WeightsError, match="not of this project"):
            read(path)


def stored(metadata: str | bytes) -> bytes:
    """A safetensors file with one tensor `a` and the project's metadata as given."""
    data = safetensors.numpy.save({"a": np.zeros(2, np.float32)}, metadata={files.FORMAT: "METADATA"})
    head = data[8 : 8 + int.from_bytes(data[:8], "little")]
    text = metadata if isinstance(metadata, bytes) else json.dumps(metadata).encode()[1:-1]
    changed = head.rstrip().replace(b"METADATA", text)
    return len(changed).to_bytes(8, "little") + changed + data[8 + len(head) :]


WHOLE = {"model": "dimp18", "versions": {}, "info": {}, "sha256": {"a": "0"}}


@pytest.mark.parametrize(
    "metadata, message",
    [
        ("", "its metadata are not JSON"),
        ('{"model": "dimp18', "its metadata are not JSON"),
        ("[" * 100_000, "its metadata are not JSON"),
        ("[]", "its metadata have no model and no versions and no info and no sha256"),
        ('"text"', "its metadata have no model"),
        (json.dumps({**WHOLE, "sha256": []}), "its metadata have no sha256$"),
        (json.dumps({**WHOLE, "model": None}), "its metadata have no model$"),
        (json.dumps({**WHOLE, "sha256": {}}), "the checksum is wrong of a$"),
        (b'\xff"', "not a safetensors file, or damaged"),
        (b'"}, {', "not a safetensors file, or damaged"),
    ],
)
def test_damaged_metadata_are_one_line(tmp_path, metadata, message):
    path = tmp_path / "p.safetensors"
    path.write_bytes(stored(metadata))
    with pytest.raises(WeightsError, match=rf"p\.safetensors: .*{message}") as error:
        files.load(path, {"a": np.zeros(2, np.float32)})
    assert "\n" not in str(error.value) and len(str(error.value)) < 400


@pytest.mark.parametrize(
    "info",
    [
        {"backbone": {}},
        {"backbone": [], "parts": ["classifier", "iou_net"]},
        {"backbone": {"responses": ["a"] * 32}, "parts": ["classifier", "iou_net"]},
        {"backbone": {"responses": [0.5]}, "parts": ["classifier", "iou_net"]},
        {"backbone": {"responses": [0.5] * 32}, "parts": ["classifier", "nose"]},
        {"backbone": {"responses": [0.5] * 32}, "parts": 3},
    ],
)
def test_heads_with_damaged_metadata_are_one_line(tmp_path, monkeypatch, info):
    monkeypatch.setattr(heads, "responses", lambda model, backbone: [0.5] * 32)
    path = tmp_path / "heads.safetensors"
    path.write_bytes(stored(json.dumps({**WHOLE, "info": info})))
    with pytest.raises(WeightsError, match=r"heads\.safetensors: its metadata are damaged") as error:
        heads.join(path, "dimp18", {}, "r18")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("values", [np.array(["text"]), np.zeros(1, complex), np.zeros(1, "M8[s]"), np.zeros(1, "V8")])
def test_a_state_dict_of_anything_but_numbers_is_refused(tmp_path, values):
    np.savez(tmp_path / "odd.npz", fine=np.zeros(2), odd=values)
    with pytest.raises(WeightsError, match=r"odd\.npz: odd holds .*, not real numbers"):
        read_state_dict(tmp_path / "odd.npz")


def test_parameter_file_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "p.safetensors"
    files.save(path, {"a": np.zeros(3, np.float32)}, model="test")
    before = path.read_bytes()

    def full(_descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(WeightsError, match=r"p\.safetensors: cannot be written: No space left on device"):
        files.save(path, {"a": np.ones(3, np.float32)}, model="test")
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["p.safetensors"]
    with pytest.raises(WeightsError, match="cannot be written"):
        files.save(path / "below_a_file", {"a": np.ones(3, np.float32)}, model="test")


def test_a_kill_in_the_middle_of_a_write_leaves_the_old_weights(tmp_path):
    """A real SIGKILL when all bytes are written and nothing is renamed."""
    path = tmp_path / "p.safetensors"
    files.save(path, {"a": np.zeros(3, np.float32)}, model="test")
    before = path.read_bytes()
    killed = (
        "import os, signal, sys; import numpy as np; from trackers.weights import files\n"
        "os.fsync = lambda file: os.kill(os.getpid(), signal.SIGKILL)\n"
        "files.save(sys.argv[1], {'a': np.ones(3, np.float32)}, model='test')\n"
    )
    repository = places.REPOSITORY
    process = subprocess.run([sys.executable, "-c", killed, str(path)], cwd=repository, check=False)
    assert process.returncode == -signal.SIGKILL
    assert path.read_bytes() == before


def test_conversion_lists_every_problem_at_once():
    state = torchvision_state()
    del state["layer1.0.bn1.running_mean"], state["layer2.0.downsample.0.weight"]
    state["layer3.0.conv1.weight"] = np.zeros((256, 128, 1, 1), np.float32)
    state["layer3.5.conv1.weight"] = np.zeros(3, np.float32)
    with pytest.raises(WeightsError) as error:
        from_peer(state, "atom_multiscale", "source.pth")
    message = str(error.value)
    assert "missing: layer1.0.bn1.running_mean, layer2.0.downsample.0.weight;" in message
    assert "unexpected: layer3.5.conv1.weight;" in message
    assert "wrong: layer3.0.conv1.weight is [256, 128, 1, 1] instead of [256, 128, 3, 3]" in message
    assert "source.pth" in message and "\n" not in message


def test_conversion_drops_only_what_is_declared():
    unused = {
        "fc.weight": np.zeros((1000, 512), np.float32),
        "layer4.0.bn1.bias": np.zeros(512, np.float32),
        "layer1.0.bn1.num_batches_tracked": np.zeros((), np.int64),
    }
    _, dropped = from_peer({**torchvision_state(), **unused}, "atom_multiscale", "source")
    assert dropped == sorted(unused)
    with pytest.raises(WeightsError, match=r"unexpected: bb_regressor\.conv9\.weight"):
        extra = {"bb_regressor.conv9.weight": np.zeros(1, np.float32)}
        from_peer({**torchvision_state(), **extra}, "atom_multiscale", "source")


def test_folded_batch_norm_gives_the_features_of_convolutions_with_bias(rng):
    state = folded_state(rng)
    params, dropped = from_peer(state, "atom_multiscale", "source")
    images = rng.normal(size=(2, 64, 48, 3)).astype(np.float32)
    taps = jax.jit(ResNet(18).apply)(params["backbone"], images)
    for name, expected in folded_resnet18(state, images).items():
        np.testing.assert_allclose(taps[name], expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())
    assert dropped == []


@pytest.mark.skipif(not SHARED.is_dir(), reason="needs the ImageNet backbones in ../shared/weights")
@pytest.mark.parametrize(
    ("file", "model"),
    [
        ("resnet18_imagenet_bnfolded_to_layer3.npz", "atom_multiscale"),
        ("resnet50_v1_imagenet_pruned8bit_bnfolded_fp16.npz", "resnet50_v1"),
    ],
)
def test_convert_of_the_imagenet_backbones(file, model, tmp_path, capsys):
    path = tmp_path / "backbone.safetensors"
    assert convert.main([str(SHARED / file), str(path), "--model", model]) == 0
    params = files.load(path, models.expected_variables(model))
    printed = capsys.readouterr().out
    assert files.sha256(path) in printed and files.sha256(SHARED / file) in printed
    assert files.read_metadata(path)["info"]["source_sha256"] == files.sha256(SHARED / file)
    with np.load(SHARED / file) as state:
        kernel = params["backbone"]["params"]["layer2_0"]["conv1"]["kernel"]
        np.testing.assert_array_equal(kernel, state["layer2.0.conv1.weight"].transpose(2, 3, 1, 0))
        bias = params["backbone"]["params"]["bn1"]["bias"]
        np.testing.assert_array_equal(bias, state["conv1.bias"])


def test_convert_of_a_checkpoint_of_torch(checkpoint, tmp_path, capsys):
    state = torchvision_state()
    tensors = {f"feature_extractor.{name}": checkpoint.tensor(value) for name, value in state.items()}
    source = checkpoint.write("legacy", {"net": tensors, "constructor": checkpoint.alien({})})
    assert convert.main([str(source), str(tmp_path / "out"), "--model", "atom_multiscale"]) == 0
    assert "2,787,264 parameters" in capsys.readouterr().out


def test_convert_reports_one_line_and_exit_code_2(tmp_path, capsys):
    (tmp_path / "text.pth").write_text("text")
    np.savez(tmp_path / "other.npz", a=np.zeros(3))
    for source, reason in (
        ("none.pth", "no such file"),
        ("text.pth", "not a PyTorch"),
        ("other.npz", "holds 1 tensor (a), and nothing of dimp18, which pytracking has as 161 tensors (bb_reg"),
    ):
        assert convert.main([str(tmp_path / source), str(tmp_path / "out"), "--model", "dimp18"]) == 1
        printed = capsys.readouterr()
        assert printed.out == "" and reason in printed.err and source in printed.err
        assert printed.err.count("\n") == 1 and printed.err.startswith("error: ")
    assert not (tmp_path / "out").exists()
    with pytest.raises(SystemExit) as exit_code:
        convert.main([str(tmp_path / "other.npz"), str(tmp_path / "out"), "--model", "yolo"])
    assert exit_code.value.code == 2
    with pytest.raises(SystemExit):
        convert.main(["--help"])
    assert "python -m eval.convert dimp50.pth dimp50.safetensors --tracker dimp50" in capsys.readouterr().out


def torchvision_state():
    """Names and shapes of torchvision's ResNet-18 up to layer3."""
    expected = flatten_dict(models.expected_variables("atom_multiscale"))
    return {
        pytracking.source_name(path, ""): np.ones(pytracking.source_shape(path, leaf.shape), np.float32)
        for path, leaf in expected.items()
    }


def folded_state(rng):
    """A random ResNet-18 of convolutions with bias."""
    state = {}
    for name, value in torchvision_state().items():
        if value.ndim == 4:
            scale = np.sqrt(1 / np.prod(value.shape[1:]))
            state[name] = rng.normal(size=value.shape).astype(np.float32) * np.float32(scale)
            state[name.replace("weight", "bias")] = rng.normal(size=len(value)).astype(np.float32)
    return state


def folded_resnet18(state, images):
    """The taps of a ResNet-18 of convolutions with bias, evaluated as PyTorch lays them out."""

    def conv(x, name, stride):
        weight, bias = state[f"{name}.weight"], state[f"{name}.bias"]
        padding = [(weight.shape[-1] // 2,) * 2] * 2
        return jax.lax.conv_general_dilated(x, weight, (stride, stride), padding) + bias[:, None, None][None]

    @jax.jit
    def run(images):
        x = jax.nn.relu(conv(images.transpose(0, 3, 1, 2), "conv1", 2))
        window = ((1, 1, 3, 3), (1, 1, 2, 2), ((0, 0), (0, 0), (1, 1), (1, 1)))
        x = jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, *window)
        taps = {}
        for layer in ("layer1", "layer2", "layer3"):
            for block in (0, 1):
                name = f"{layer}.{block}"
                stride = 2 if block == 0 and layer != "layer1" else 1
                y = conv(jax.nn.relu(conv(x, f"{name}.conv1", stride)), f"{name}.conv2", 1)
                x = jax.nn.relu(y + (conv(x, f"{name}.downsample.0", stride) if stride == 2 else x))
            taps[layer] = x.transpose(0, 2, 3, 1)
        return taps

    return {name: np.asarray(tap) for name, tap in run(images).items()}


@pytest.fixture
def checkpoint(tmp_path):
    with torch_files.writer(tmp_path / "checkpoint.pth") as writer:
        yield writer
