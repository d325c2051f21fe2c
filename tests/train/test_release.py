"""Half precision in weight files, `python -m train.release`, weights that come with the package, joining heads."""

import os
from functools import partial
from pathlib import Path

import jax
import numpy as np
import pytest
import safetensors.numpy
from flax.traverse_util import flatten_dict, unflatten_dict

import trackers
from eval import convert, settings
from eval.online import OnlineTracker
from eval.scoring import metrics
from eval.sources import synthetic
from tests.helpers import places
from trackers.nets import models
from trackers.nets.resnet import BATCH_NORM_EPSILON
from trackers.weights import WeightsError, files, heads, released
from trackers.weights.convert import backbone_model
from trackers.weights.peers import pytracking
from train import release
from train.configs import dimp18_heads, dimp_tiny, siamfc_photos, siamrpnpp_mobilenetv2_heads

SHARED = places.SHARED / "weights"
FOLDED = SHARED / "resnet18_imagenet_bnfolded_to_layer3.npz"
MOBILENET = "siamrpnpp_mobilenetv2_1.0"
CONFIGS = {
    "dimp_tiny": dimp_tiny,
    "dimp18": dimp18_heads,
    "siamfc": siamfc_photos,
    MOBILENET: siamrpnpp_mobilenetv2_heads,
}


@pytest.fixture
def params(rng):
    kernel = np.float32(10.0) ** rng.uniform(-9, 4, (64, 32)).astype(np.float32) * rng.choice([-1, 1], (64, 32))
    return {
        "params": {"kernel": kernel.astype(np.float32), "bias": np.full(4, 1e-7, np.float32)},
        "batch_stats": {"var": np.full(4, 1e-12, np.float32)},
        "tiny": np.full((2, 2), 1e-7, np.float32),
        "zero": np.zeros((2, 2), np.float32),
        "counter": np.array([[7]], np.int32),
    }


@pytest.fixture(scope="module")
def tiny():
    return random_params("dimp_tiny")


@pytest.fixture(scope="module")
def dimp18():
    return random_params("dimp18")


@pytest.fixture
def package(tmp_path, monkeypatch):
    """An empty folder in the place of the package's own weights."""
    folder = tmp_path / "released"
    folder.mkdir()
    monkeypatch.setattr(released, "FOLDER", folder)
    return folder


def test_half_precision_keeps_kernels_to_half_a_unit_and_all_else_to_the_bit(params, tmp_path):
    full, half = tmp_path / "full.safetensors", tmp_path / "half.safetensors"
    files.save(full, params, model="test")
    files.save(half, params, model="test", half=True)
    assert full.stat().st_size - half.stat().st_size > params["params"]["kernel"].size * 2 - 200
    loaded = files.load(half, params)
    kernel, wanted = loaded["params"].pop("kernel"), params["params"]["kernel"]
    assert kernel.dtype == np.float32
    assert (np.abs(kernel - wanted) <= np.maximum(2.0**-11 * np.abs(wanted), 2.0**-25)).all()
    rest = {**params, "params": {"bias": params["params"]["bias"]}}
    jax.tree.map(np.testing.assert_array_equal, loaded, rest)
    assert jax.tree.map(lambda leaf: leaf.dtype, loaded) == jax.tree.map(lambda leaf: leaf.dtype, rest)
    stored = safetensors.numpy.load_file(half)
    halved = {name for name, value in stored.items() if value.dtype == np.float16}
    assert halved == {"params/kernel", "zero"}
    again = tmp_path / "again.safetensors"
    files.save(again, files.load(half, params), model="test", half=True)
    assert again.read_bytes() == half.read_bytes()


def test_half_precision_refuses_what_it_cannot_hold(params, tmp_path):
    path = tmp_path / "p.safetensors"
    for name, value, reason in (
        ("big", np.full((2, 2), 7e4, np.float32), r"big is too large for half precision: 7e\+04"),
        ("nan", np.full((2, 2), np.nan, np.float32), "nan is not finite"),
        ("bias", np.array([np.inf], np.float32), "bias is not finite"),
    ):
        with pytest.raises(WeightsError, match=rf"p\.safetensors: a/{reason}$"):
            files.save(path, {**params, "a": {name: value}}, model="test", half=True)
    assert os.listdir(tmp_path) == []


def test_a_file_in_half_precision_is_strict_and_reports_damage(params, tmp_path):
    path = tmp_path / "p.safetensors"
    files.save(path, {"a": params["params"]["kernel"]}, model="test", half=True)
    with pytest.raises(WeightsError, match=r"a is F16\[64, 32\] instead of F32\[32, 64\]"):
        files.load(path, {"a": np.zeros((32, 64), np.float32)})
    with pytest.raises(WeightsError, match=r"a is F16\[64, 32\] instead of F64"):
        files.load(path, {"a": np.zeros((64, 32), np.float64)})
    data = bytearray(path.read_bytes())
    data[-5] ^= 1
    path.write_bytes(data)
    with pytest.raises(WeightsError, match=r"p\.safetensors: damaged, the checksum is wrong of a$"):
        files.load(path, {"a": np.zeros((64, 32), np.float32)})


def test_release_of_a_run_its_card_and_tracking_without_weights(tiny, package, tmp_path, capsys):
    run = write_run(tmp_path / "run", "dimp_tiny", tiny)
    out = package / "dimp_tiny.safetensors"
    options = ["--command", "python -m train.dimp\n --config x.py", "--measured", "AUC 0.5", "--note", "Not on OTB."]
    with pytest.raises(WeightsError, match="dimp_tiny needs a weight file of model dimp_tiny: train it"):
        trackers.load_params("dimp_tiny", None)
    for _ in range(2):  # the second takes the place of the first
        assert release.main([str(run), "--out", str(out), *options, "--note", "Nor on LaSOT."]) == 0
    assert files.sha256(out) in capsys.readouterr().out
    info = files.read_metadata(out)["info"]
    assert info["config"]["loss"]["model"] == "dimp_tiny" and info["parts"] == ["backbone", "classifier", "iou_net"]
    card = out.with_suffix(".md").read_text()
    count = sum(leaf.size for leaf in jax.tree.leaves(tiny))
    for text in (
        "# dimp_tiny\n",
        "| model | `dimp_tiny` |",
        "| parts | backbone, classifier, iou_net |",
        f"| parameters | {count:,} |",
        f"{out.stat().st_size:,} bytes",
        f"| sha256 | `{files.sha256(out)}` |",
        "csv (train, weight 0.7), synthetic_tracking (train, weight 0.3)",
        f"| steps | {dimp_tiny.get_config().loop.steps:,} of 12 samples each |",
        "| seed | 0 |",
        f"jax {jax.__version__}",
        "| license | Apache-2.0 |",
        "\npython -m train.dimp --config x.py\n",
        "## Measured\n\n- AUC 0.5\n",
        "## Notes\n\n- Not on OTB.\n- Nor on LaSOT.\n",
    ):
        assert text in card
    assert "Backbone" not in card
    assert out.stat().st_size < 0.52 * (run / "weights.safetensors").stat().st_size

    params = trackers.load_params("dimp_tiny", None)
    found, wanted = (np.array(heads.responses("dimp_tiny", tree["backbone"])) for tree in (params, tiny))
    assert 0 < np.abs(found - wanted).max() < 2e-3 * np.abs(wanted).max()


def test_release_reports_one_line_and_exit_code_1(tiny, tmp_path, capsys):
    run = write_run(tmp_path / "run", "dimp_tiny", tiny)
    files.save(tmp_path / "converted.safetensors", tiny, model="dimp_tiny", info={"source": "peer.pth"})
    broken = jax.tree.map(np.copy, tiny)
    broken["classifier"]["params"]["filter_conv"]["kernel"][0, 0, 0, 0] = np.nan
    write_run(tmp_path / "broken", "dimp_tiny", broken)
    other = jax.tree.map(lambda leaf: leaf + 1, tiny)
    files.save(tmp_path / "other.safetensors", other, model="dimp_tiny")
    out, noted = tmp_path / "out.safetensors", tmp_path / "notes.md"
    noted.write_text("mine")
    for arguments, reason in (
        ([run, "--out", noted.with_suffix(".safetensors")], "notes.md: is there already, and no card of notes"),
        ([run / "weights.safetensors", "--out", run / "weights.safetensors"], "which is read; choose another name"),
        ([tmp_path / "none"], "none: no such file"),
        ([tmp_path], "weights.safetensors: no such file"),
        ([tmp_path / "converted.safetensors"], "not written by a training of this project"),
        ([run, "--parts", "classifier", "tail"], "has no part tail; it has backbone, classifier, iou_net"),
        ([tmp_path / "broken"], "classifier/params/filter_conv/kernel is not finite"),
        ([run, "--backbone", tmp_path / "other.safetensors"], "the backbone is released too"),
        ([run, "--parts", "iou_net"], "no public backbone fits dimp_tiny, release all parts"),
        ([run, "--out", tmp_path / "out.bin"], "must end with .safetensors"),
        ([run, "--out", tmp_path / "none" / "o.safetensors"], "cannot be written: No such file"),
    ):
        assert release.main(["--out", str(out), *map(str, arguments)]) == 1
        printed = capsys.readouterr()
        assert printed.out == "" and reason in printed.err
        assert printed.err.count("\n") == 1 and printed.err.startswith("error: ")
    assert not out.exists() and not out.with_suffix(".md").exists() and noted.read_text() == "mine"


def test_heads_join_their_backbone_and_no_other(dimp18, package, tmp_path, capsys):
    """Released heads and the backbone's file, batch normalization explicit or folded, in torch's layout."""
    state = torch_state(dimp18["backbone"])
    np.savez(tmp_path / "explicit.npz", **state)
    np.savez(tmp_path / "folded.npz", **folded(state))
    r18, joined = tmp_path / "r18.safetensors", tmp_path / "joined.safetensors"
    assert convert.main([str(tmp_path / "explicit.npz"), str(r18), "--model", "atom_multiscale"]) == 0
    run, out = write_run(tmp_path / "run", "dimp18", dimp18), package / "dimp18_heads.safetensors"
    of_heads = ["--parts", "classifier", "iou_net", "--backbone", str(r18)]
    assert release.main([str(run), "--out", str(out), *of_heads]) == 0
    card = out.with_suffix(".md").read_text()
    source = files.sha256(tmp_path / "explicit.npz")
    assert f"from `explicit.npz` (sha256 `{source}`)" in card
    assert files.read_metadata(out)["info"]["backbone"]["sha256"] in card
    with pytest.raises(WeightsError, match=r"dimp18_heads\.safetensors: heads without a backbone; join"):
        trackers.load_params("dimp18", out)

    half = files.load(out, {part: dimp18[part] for part in ("classifier", "iou_net")})
    for source, model, choice in (("explicit", "dimp18", "released"), ("folded", "atom", str(out))):
        path = tmp_path / f"{source}.npz"
        assert convert.main([str(path), str(joined), "--model", model, "--heads", choice]) == 0
        assert files.sha256(out) in capsys.readouterr().out
        params = trackers.load_params(model, joined)
        assert set(params) == set(models.networks(model))
        jax.tree.map(np.testing.assert_array_equal, params["iou_net"], half["iou_net"])
        info = files.read_metadata(joined)["info"]
        assert info["source_sha256"] == files.sha256(path)
        assert info["heads"]["source_sha256"] == files.sha256(out)
        assert info["heads"]["info"]["steps"] == dimp18_heads.get_config().loop.steps
        kernel = dimp18["backbone"]["params"]["conv1"]["kernel"]
        assert np.array_equal(params["backbone"]["params"]["conv1"]["kernel"], kernel) == (source == "explicit")

    assert convert.main([str(tmp_path / "folded.npz"), str(r18), "--tracker", "dimp18_heads"]) == 0
    assert convert.main([str(tmp_path / "folded.npz"), str(joined), "--model", "dimp18", "--heads", "released"]) == 0
    assert r18.read_bytes() == joined.read_bytes()  # a tracker's name says it all

    joined.unlink()
    changed = jax.tree.map(lambda leaf: leaf + np.float32(1e-3), {"backbone": dimp18["backbone"]})
    files.save(r18, changed, model="atom_multiscale")
    assert release.main([str(run), "--out", str(tmp_path / "no.safetensors"), *of_heads]) == 1
    assert "r18.safetensors: not the backbone of" in capsys.readouterr().err
    name = "layer2.0.conv1.weight"
    np.savez(tmp_path / "other.npz", **{**state, name: state[name][::-1]})
    files.save(tmp_path / "tiny.safetensors", {"a": np.ones(1)}, model="dimp_tiny", info={"backbone": {}})
    iou_net = {"iou_net": half["iou_net"]}
    info = {**files.read_metadata(out)["info"], "parts": ["iou_net"]}
    files.save(tmp_path / "iou_net.safetensors", iou_net, model="dimp18", info=info)
    for source, model, choice, reason in (
        ("other", "dimp18", str(out), "trained on another backbone than"),
        ("explicit", "dimp18", str(tmp_path / "tiny.safetensors"), "heads of dimp_tiny, which do not fit dimp18"),
        ("explicit", "dimp18", str(tmp_path / "iou_net.safetensors"), "has no classifier, which dimp18 needs"),
        ("explicit", "dimp18", str(run / "weights.safetensors"), "not a file of heads"),
        ("explicit", "dimp18", str(tmp_path / "none"), "no such file"),
        ("explicit", "dimp50", "released", "no heads of dimp50 come with the package"),
        ("explicit", "atom_multiscale", str(out), "atom_multiscale is a backbone alone"),
    ):
        arguments = [str(tmp_path / f"{source}.npz"), str(joined), "--model", model, "--heads", choice]
        assert convert.main(arguments) == 1
        printed = capsys.readouterr()
        assert printed.out == "" and reason in printed.err and printed.err.count("\n") == 1
    out.unlink()
    arguments = [str(tmp_path / "explicit.npz"), str(joined), "--model", "dimp18", "--heads", "released"]
    assert convert.main(arguments) == 1
    assert "no heads of dimp18 come with the package" in capsys.readouterr().err
    assert not joined.exists()


@pytest.mark.skipif(not FOLDED.is_file(), reason="needs the ImageNet ResNet-18 in ../shared/weights")
def test_heads_join_the_imagenet_backbone(dimp18, tmp_path, capsys):
    r18, out, joined = (tmp_path / f"{name}.safetensors" for name in ("r18", "heads", "joined"))
    assert convert.main([str(FOLDED), str(r18), "--model", "atom_multiscale"]) == 0
    backbone = files.load(r18, models.expected_variables("atom_multiscale"))["backbone"]
    run = write_run(tmp_path / "run", "dimp18", {**dimp18, "backbone": backbone})
    assert release.main([str(run), "--out", str(out), "--parts", "classifier", "iou_net", "--backbone", str(r18)]) == 0
    for model in ("dimp18", "atom"):
        assert convert.main([str(FOLDED), str(joined), "--model", model, "--heads", str(out)]) == 0
        jax.tree.map(np.testing.assert_array_equal, trackers.load_params(model, joined)["backbone"], backbone)
    np.savez(tmp_path / "other.npz", **torch_state(dimp18["backbone"]))
    arguments = [str(tmp_path / "other.npz"), str(joined), "--model", "dimp18", "--heads", str(out)]
    assert convert.main(arguments) == 1
    assert "trained on another backbone" in capsys.readouterr().err


def test_heads_of_a_siamese_model_join_their_backbone_and_no_other(tmp_path, capsys):
    """Of one that no reference implementation has: its backbone alone is public."""
    params = random_params(MOBILENET)
    run, out = write_run(tmp_path / "run", MOBILENET, params), tmp_path / "heads.safetensors"
    assert release.main([str(run), "--out", str(out), "--parts", "neck", "head"]) == 0
    responses = files.read_metadata(out)["info"]["backbone"]["responses"]
    assert len(responses) == heads.RESPONSES and np.std(responses) > 0
    joined, _ = heads.join(out, MOBILENET, params["backbone"], "backbone")
    assert set(joined) == {"backbone", "neck", "head"}
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-3, atol=1e-6), joined, params)
    other = jax.tree.map(lambda leaf: leaf * np.float32(1.05), params["backbone"])
    with pytest.raises(WeightsError, match="trained on another backbone than other"):
        heads.join(out, MOBILENET, other, "other")

    assert backbone_model(MOBILENET) == "mobilenetv2"
    np.savez(tmp_path / "empty.npz", a=np.ones(1))
    capsys.readouterr()
    for model, more, reason in (
        (MOBILENET, [], "holds 1 tensor (a), and nothing of mobilenetv2, which torchvision has as"),
        ("siamfc", ["--heads", str(out)], "no file holds the backbone of siamfc alone"),
    ):
        arguments = [str(tmp_path / "empty.npz"), str(tmp_path / "joined.safetensors"), "--model", model, *more]
        assert convert.main(arguments) == 1
        assert reason in capsys.readouterr().err
    fc = write_run(tmp_path / "fc", "siamfc", random_params("siamfc"))
    assert release.main([str(fc), "--out", str(out), "--parts", "head"]) == 1
    assert "no public backbone fits siamfc, release all parts" in capsys.readouterr().err


def test_every_file_that_comes_with_the_package():
    """Whole, with a card that belongs to it, and not larger than a package should be."""
    for file in released.FOLDER.glob("*.safetensors"):
        metadata = files.read_metadata(file)
        expected = models.expected_variables(metadata["model"])
        files.load(file, {part: expected[part] for part in metadata["info"]["parts"]})
        assert files.sha256(file) in file.with_suffix(".md").read_text()
        assert file.stem in (metadata["model"], *(models.get(name).heads for name in models.names()))
        assert file.stat().st_size < 30e6


def random_params(model: str):
    """Weights that keep the scale of the features; quicker than `models.init_variables`."""
    rng = np.random.default_rng(0)

    def draw(path, leaf):
        if len(leaf.shape) > 1:
            return rng.normal(size=leaf.shape) * np.sqrt(2 / np.prod(leaf.shape[:-1]))
        low, high = (0.5, 2) if path[-1] in ("scale", "var") else (-0.2, 0.2)
        return rng.uniform(low, high, leaf.shape)

    expected = flatten_dict(models.expected_variables(model))
    return unflatten_dict({path: np.asarray(draw(path, leaf), np.float32) for path, leaf in expected.items()})


def write_run(folder: Path, model: str, params) -> Path:
    """A run's folder with a weight file as `train.run` writes it."""
    folder.mkdir()
    config = settings.plain(CONFIGS[model].get_config())
    info = {"config": config, "steps": config["loop"]["steps"], "versions": settings.versions()}
    files.save(folder / "weights.safetensors", params, model=model, info=info)
    return folder


def torch_state(backbone) -> dict[str, np.ndarray]:
    """The backbone under torchvision's names, in torch's layout."""
    return {
        pytracking.source_name(("backbone", *path), ""): leaf.transpose(3, 2, 0, 1) if leaf.ndim == 4 else leaf
        for path, leaf in flatten_dict(backbone).items()
    }


def folded(state: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The same network as convolutions with bias."""
    result = {}
    for name, kernel in state.items():
        if kernel.ndim == 4:
            norm = name.replace("conv", "bn").replace("downsample.0", "downsample.1").removesuffix("weight")
            scale = state[f"{norm}weight"] / np.sqrt(state[f"{norm}running_var"] + BATCH_NORM_EPSILON)
            result[name] = kernel * scale[:, None, None, None]
            result[name.replace("weight", "bias")] = state[f"{norm}bias"] - state[f"{norm}running_mean"] * scale
    return result


LIMITS = {  # bytes
    "dimp_tiny": 12e6,
    "dimp18_heads": 18e6,
    "siamfc": 5e6,
    "siamrpnpp_mobilenetv2_heads": 16e6,
    "memtrack": 13e6,
    "siamfc_distilled": 8e6,
    "siamrpn_distilled": 12e6,
}


@pytest.mark.parametrize("name", LIMITS)
def test_released_files_are_whole_small_and_described(name):
    path = released.FOLDER / f"{name}.safetensors"
    metadata = files.read_metadata(path)
    expected = models.expected_variables(metadata["model"])
    loaded = files.load(path, {part: expected[part] for part in metadata["info"]["parts"]})
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(loaded))
    as_they_are = files.load(path, None)  # what `trackers.load` takes, without tracing the networks
    jax.tree.map(np.testing.assert_array_equal, as_they_are, loaded)
    assert [leaf.dtype for leaf in jax.tree.leaves(as_they_are)] == [leaf.dtype for leaf in jax.tree.leaves(loaded)]
    assert path.stat().st_size <= LIMITS[name]
    card = path.with_suffix(".md").read_text()
    assert files.sha256(path) in card and metadata["info"]["measured"]  # tests/test_readme.py compares its figures
    assert "/" not in metadata["info"]["config"]["validation"]["data_dir"]  # no path of somebody's machine


@pytest.mark.full
@pytest.mark.parametrize(("name", "frames"), [("dimp_tiny", 40), ("siamfc", 20), ("memtrack", 20)])
def test_the_released_weights_track(name, frames):
    """A clip that they were not trained on, the one that the demo shows."""
    images, boxes, _ = zip(*synthetic.clip(synthetic.ClipConfig(num_frames=frames), seed=0))
    entry = trackers.get(name)
    online = OnlineTracker(entry.make(entry.config), trackers.load_params(name, None))
    online.init(images[0], boxes[0])
    found = [online.update(image)[1] for image in images[1:]]
    assert metrics.overlaps(np.stack(found), np.stack(boxes[1:])).mean() > 0.6
