"""Checkpoints of the reference implementations through our parameters and back, and ours through theirs, to the bit."""

import jax
import numpy as np
import pytest

import trackers
from eval import convert
from tests.helpers import oracle
from trackers.nets import alexnet, models
from trackers.weights import WeightsError, files, released
from trackers.weights.convert import from_peer, to_peer
from trackers.weights.peers import pytracking
from trackers.weights.torch_reader import read_state_dict
from trackers.weights.torch_writer import torch_file

SCHEMAS = {
    "siamfc": "siamfc",
    "atom": "atom18",
    "siamrpnpp_alexnet": "siamrpn_alex_dwxcorr",
    "dimp18": "dimp18",
    "dimp50": "dimp50",
    "siamrpn": "SiamRPNvot",
    "siamrpn_big": "SiamRPNBIG",
    "siamrpnpp_mobilenetv2": "siamrpn_mobilev2_l234_dwxcorr",
    "siamrpnpp_resnet50": "siamrpn_r50_l234_dwxcorr",
    "siamrpnpp_resnet50_otb": "siamrpn_r50_l234_dwxcorr_otb",
    "siamrpnpp_resnet50_lt": "siamrpn_r50_l234_dwxcorr_lt",
}
QUICK = ("siamfc", "atom")
FORMS = [*SCHEMAS.items(), ("siamrpnpp_alexnet", "siamrpn_alex_dwxcorr_16gpu")]


def numbered(schema: str) -> dict[str, np.ndarray]:
    """A state dict without two equal tensors, and with no equal numbers close together in one."""
    state = {}
    for index, (name, shape) in enumerate(oracle.schema(schema).items()):
        values = np.arange(int(np.prod(shape))) % 65521 + index / 512
        state[name] = values.reshape(shape).astype(np.int64 if name.endswith("num_batches_tracked") else np.float32)
    return state


def described(state):
    return {name: (value.shape, value.dtype) for name, value in state.items()}


@pytest.mark.parametrize(
    ("model", "schema"),
    [
        pytest.param(*row, marks=[pytest.mark.full] * (row not in [(one, SCHEMAS[one]) for one in QUICK]))
        for row in FORMS
    ],
)
def test_theirs_to_ours_and_back(model, schema):
    """What we have: always to the bit. What we do not have: from a checkpoint `like` it, else zeros."""
    theirs = numbered(schema)
    params, dropped = from_peer(theirs, model, "theirs")
    whole = to_peer(params, model, "ours", like=theirs, like_source="theirs")
    assert whole.filled == [] and described(whole.state) == described(theirs)
    for name, value in theirs.items():
        np.testing.assert_array_equal(whole.state[name], value, err_msg=name, strict=True)
    written = to_peer(params, model, "ours")
    assert len(written.filled) == len(dropped) and written.lost == []
    if schema == SCHEMAS[model]:
        assert written.filled == dropped
        assert described(written.state) == described(theirs)
        for name, value in written.state.items():
            expected = value * 0 + name.endswith("running_var") if name in dropped else theirs[name]
            np.testing.assert_array_equal(value, expected, err_msg=name)
    else:  # the older of two forms
        assert described(written.state) == described(numbered(SCHEMAS[model]))
    again, _ = from_peer(written.state, model, "written")
    jax.tree.map(np.testing.assert_array_equal, again, params)


@pytest.mark.parametrize("model", ["atom_multiscale", pytest.param("resnet50", marks=pytest.mark.full), "memtrack"])
def test_ours_to_theirs_and_back(model):
    """Models without a schema: the backbones of torchvision, and MemTrack's own variables."""
    rng = np.random.default_rng(0)
    params = jax.tree.map(lambda leaf: rng.random(leaf.shape, np.float32), models.expected_variables(model))
    written = to_peer(params, model, "ours")
    again, dropped = from_peer(written.state, model, "written")
    jax.tree.map(np.testing.assert_array_equal, again, params)
    assert dropped == written.filled
    if model == "atom_multiscale":  # the backbone of ATOM as torchvision has it
        prefix = pytracking.PYTRACKING_BACKBONE
        stored = {name.removeprefix(prefix): shape for name, shape in oracle.schema("atom18").items() if prefix in name}
        assert {name: value.shape for name, value in written.state.items()} == stored


def test_the_folded_backbone_is_written_with_its_batch_normalization():
    """As it is here: what `like` has folded is no tensor of the file."""
    theirs = oracle_backbone()
    kernels = {name: value for name, value in theirs.items() if value.ndim == 4 and "layer4" not in name}
    folded = kernels | {name.replace("weight", "bias"): value[:, 0, 0, 0] for name, value in kernels.items()}
    params, _ = from_peer(folded, "atom_multiscale", "folded")
    written = to_peer(params, "atom_multiscale", "ours", like=folded, like_source="folded")
    assert described(written.state) == described(theirs)
    np.testing.assert_array_equal(written.state["bn1.bias"], folded["conv1.bias"])


def oracle_backbone():
    prefix = pytracking.PYTRACKING_BACKBONE
    return {name.removeprefix(prefix): value for name, value in numbered("atom18").items() if name.startswith(prefix)}


@pytest.mark.parametrize("suffix", [".pth", ".safetensors", ".npz"])
def test_the_released_siamfc_to_siamfc_pytorch_and_back(suffix, tmp_path, capsys):
    """The bias of the score, which siamfc-pytorch does not have and no place of a maximum depends on, is lost."""
    theirs, ours = tmp_path / f"theirs{suffix}", tmp_path / "ours.safetensors"
    source = released.path("siamfc")
    assert convert.main([str(source), str(theirs), "--to", "siamfc-pytorch"]) == 0, capsys.readouterr().err
    printed = capsys.readouterr().out
    assert f"{theirs}: 30 tensors, 2,338,564 numbers" in printed
    assert "filled: 4 backbone.conv1.1.num_batches_tracked" in printed and "dropped: 1 head/params/bias" in printed
    assert {name: value.shape for name, value in read_state_dict(theirs).items()} == oracle.schema("siamfc")
    assert convert.main([str(theirs), str(ours), "--tracker", "siamfc"]) == 0, capsys.readouterr().err
    before, after = trackers.load_params("siamfc"), trackers.load_params("siamfc", ours)
    jax.tree.map(np.testing.assert_array_equal, after["backbone"], before["backbone"])
    assert before["head"]["params"]["bias"] != 0 and after["head"]["params"]["bias"] == 0


def test_a_checkpoint_like_it_gives_what_we_do_not_have(tmp_path, capsys):
    theirs = numbered("siamfc")
    np.savez(tmp_path / "theirs.npz", **theirs)
    assert convert.main([str(tmp_path / "theirs.npz"), str(tmp_path / "ours"), "--model", "siamfc"]) == 0
    back = [str(tmp_path / "ours"), str(tmp_path / "back.pth"), "--to", "siamfc-pytorch"]
    assert convert.main([*back, "--like", str(tmp_path / "theirs.npz")]) == 0, capsys.readouterr().err
    read = read_state_dict(tmp_path / "back.pth")
    assert described(read) == described(theirs)
    for name, value in theirs.items():
        np.testing.assert_array_equal(read[name], value, err_msg=name)


@pytest.mark.parametrize(
    ("model", "project", "name", "message"),
    [
        ("dimp_tiny", "pytracking", "out.pth", "made for dimp_tiny, which no reference implementation has"),
        ("mobilenetv2", "torchvision", "out.pth", "no reference implementation takes the networks of mobilenetv2"),
        ("siamfc", "pysot", "out.pth", "made for siamfc, whose networks are those of siamfc-pytorch; give --to"),
        ("siamfc", "siamfc-pytorch", "out.onnx", r"out\.onnx: the name must end with \.pth, \.safetensors or \.npz"),
        ("yolo", "pysot", "out.pth", "made for 'yolo', which is no model of"),
    ],
)
def test_what_no_reference_implementation_takes_is_one_line(model, project, name, message, tmp_path, monkeypatch):
    leaf = {"params": {"x": np.zeros(1, np.float32)}}
    monkeypatch.setattr(models, "expected_variables", lambda model: {"backbone": leaf})
    files.save(tmp_path / "ours", {"backbone": leaf}, model=model)
    with pytest.raises(WeightsError, match=message) as error:
        convert.convert_back(tmp_path / "ours", tmp_path / name, project)
    assert "\n" not in str(error.value) and not (tmp_path / name).exists()


def test_heads_without_a_backbone_and_other_checkpoints_are_one_line(tmp_path, capsys):
    out = str(tmp_path / "out.pth")
    assert convert.main([str(released.heads("dimp18")), out, "--to", "pytracking"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "missing: backbone/" in line
    np.savez(tmp_path / "other.npz", a=np.zeros(3))
    like = ["--like", str(tmp_path / "other.npz")]
    assert convert.main([str(released.path("siamfc")), out, "--to", "siamfc-pytorch", *like]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "other.npz: holds 1 tensor (a), and nothing of siamfc" in line
    for arguments in (["--to", "yolo"], ["--to", "pysot", "--heads", "released"], ["--model", "siamfc", *like]):
        with pytest.raises(SystemExit):
            convert.main([out, out + "2", *arguments])
    assert list(tmp_path.iterdir()) == [tmp_path / "other.npz"]


@pytest.mark.full
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_pytorch_loads_what_is_written_and_computes_the_same(suffix, tmp_path):
    """siamfc-pytorch's network, its names and layers, with every name required."""
    torch = pytest.importorskip("torch", reason="needs PyTorch: pip install torch")
    file = tmp_path / f"siamfc{suffix}"
    convert.convert_back(released.path("siamfc"), file, "siamfc-pytorch")
    if suffix == ".pth":
        state = torch.load(file, weights_only=True)
    else:
        state = pytest.importorskip("safetensors.torch").load_file(file)

    def layer(inputs, outputs, size, stride=1, groups=1, last=False):
        convolution = torch.nn.Conv2d(inputs, outputs, size, stride, groups=groups)
        norm = torch.nn.BatchNorm2d(outputs, eps=alexnet.SIAMFC_BATCH_NORM["epsilon"])
        return torch.nn.Sequential(convolution, *([] if last else [norm, torch.nn.ReLU()]))

    class Network(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.backbone = torch.nn.Module()
            self.backbone.conv1 = layer(3, 96, 11, 2)
            self.backbone.conv2 = layer(96, 256, 5, groups=2)
            self.backbone.conv3 = layer(256, 384, 3)
            self.backbone.conv4 = layer(384, 384, 3, groups=2)
            self.backbone.conv5 = layer(384, 256, 3, groups=2, last=True)

        def forward(self, x):
            layers = list(self.backbone.children())
            for index, one in enumerate(layers):
                x = one(x)
                x = torch.nn.functional.max_pool2d(x, 3, 2) if index < 2 else x
            return x

    network = Network()
    assert str(network.load_state_dict(state, strict=True)) == "<All keys matched successfully>"
    images = np.random.default_rng(0).uniform(0, 255, (1, 95, 95, 3)).astype(np.float32)
    params = trackers.load_params("siamfc")["backbone"]
    inputs = torch.tensor(images.transpose(0, 3, 1, 2))
    first = torch.nn.functional.conv2d(inputs, state["backbone.conv1.0.weight"], stride=2)
    kernel = params["params"]["conv1"]["kernel"]
    ours = jax.lax.conv_general_dilated(images, kernel, (2, 2), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC"))
    np.testing.assert_allclose(first.numpy().transpose(0, 2, 3, 1), ours, rtol=1e-4, atol=1e-2)
    (features,) = jax.jit(models.networks("siamfc")["backbone"].apply)(params, images)
    with torch.no_grad():
        theirs = network.eval()(inputs).numpy().transpose(0, 2, 3, 1)
    np.testing.assert_allclose(theirs, features, rtol=1e-3, atol=1e-4 * float(np.abs(features).max()))


@pytest.mark.full
def test_pytorch_reads_every_dtype_that_is_written(tmp_path):
    torch = pytest.importorskip("torch", reason="needs PyTorch: pip install torch")
    state = {"half": np.arange(3, dtype=np.float16), "double": np.ones((2, 0)), "count": np.int64(7).reshape(())}
    state |= {"flag": np.array([True, False]), "turned": np.arange(6, dtype=np.float32).reshape(2, 3).T}
    (tmp_path / "state.pth").write_bytes(torch_file(state))
    for name, tensor in torch.load(tmp_path / "state.pth", weights_only=True).items():
        np.testing.assert_array_equal(tensor.numpy(), state[name], strict=True)
