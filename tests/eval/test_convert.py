"""`python -m eval.convert --tracker`: what a file holds decides how it is converted, and what cannot be is one line."""

import numpy as np
import pytest

import trackers
from eval import convert
from tests.helpers import oracle, places
from trackers.weights import files, released

RESNET18 = places.SHARED / "weights" / "resnet18_imagenet_bnfolded_to_layer3.npz"
MOBILENET = places.SHARED / "weights" / "mobilenetv2_1.0_imagenet_bnfolded_fp16.npz"
BACKBONE = "feature_extractor."


def write(path, state):
    np.savez(path, **state)
    return path


def main(source, out, tracker, *more):
    return convert.main([str(source), str(out), "--tracker", tracker, *more])


@pytest.mark.parametrize(("tracker", "schema"), [("dimp18_heads", "dimp18"), ("siamfc_5s", "siamfc")])
def test_a_reference_checkpoint_is_converted_whole(tracker, schema, tmp_path, capsys):
    out = tmp_path / "out.safetensors"
    assert main(write(tmp_path / "whole.npz", oracle.weights(schema)), out, tracker) == 0, capsys.readouterr().err
    metadata = files.read_metadata(out)
    assert metadata["model"] == trackers.get(tracker).model and "heads" not in metadata["info"]
    trackers.load_params(tracker, out)


@pytest.mark.full
def test_a_backbone_alone_is_joined_with_the_released_heads_and_no_other_fits(tmp_path, capsys):
    """Theirs would be: this one is not the backbone that they were trained on."""
    state = {name: value for name, value in oracle.weights("dimp18").items() if name.startswith(BACKBONE)}
    assert main(write(tmp_path / "r18.npz", state), tmp_path / "out", "dimp18") == 1
    assert "dimp18_heads.safetensors: trained on another backbone than" in capsys.readouterr().err


@pytest.mark.skipif(not RESNET18.is_file(), reason="needs the ImageNet backbones in ../shared/weights")
@pytest.mark.parametrize(
    ("tracker", "source", "heads"),
    [
        ("dimp18_heads", RESNET18, "dimp18_heads.safetensors"),
        pytest.param("atom_vot", RESNET18, "dimp18_heads.safetensors", marks=pytest.mark.full),
        ("atom_multiscale", RESNET18, None),
        pytest.param(
            "siamrpnpp_mobilenetv2_1.0", MOBILENET, "siamrpnpp_mobilenetv2_heads.safetensors", marks=pytest.mark.full
        ),
    ],
)
def test_a_public_backbone_becomes_the_tracker(tracker, source, heads, tmp_path, capsys):
    out = tmp_path / "out.safetensors"
    assert main(source, out, tracker) == 0, capsys.readouterr().err
    info = files.read_metadata(out)["info"]
    assert info.get("heads", {"source": None})["source"] == heads
    trackers.load_params(tracker, out)


@pytest.mark.parametrize(
    ("tracker", "state", "message"),
    [
        ("atom_filterbank", {}, "atom_filterbank is built by code and needs no weights"),
        ("dimp_tiny", {}, "neither a reference implementation nor released heads; its weights come with the package"),
        ("dimp-18", {}, "unknown tracker 'dimp-18'; did you mean dimp18"),
        ("dimp18", {"a": np.zeros(3)}, "holds 1 tensor (a), and nothing of dimp18"),
    ],
)
def test_what_cannot_be_converted_is_one_line(tracker, state, message, tmp_path, capsys):
    assert main(write(tmp_path / "source.npz", state), tmp_path / "out", tracker) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ") and message in line


def test_a_backbone_without_heads_of_ours_asks_for_them(tmp_path, capsys):
    state = {name: value for name, value in oracle.weights("dimp50").items() if name.startswith(BACKBONE)}
    assert main(write(tmp_path / "r50.npz", state), tmp_path / "out", "dimp50") == 1
    assert "a backbone alone, and no classifier and iou_net of dimp50 come with" in capsys.readouterr().err


def test_a_tracker_or_a_model_must_be_named(tmp_path):
    for names in ([], ["--tracker", "dimp18", "--model", "dimp18"]):
        with pytest.raises(SystemExit):
            convert.main(["source", "out", *names])


@pytest.mark.parametrize("tracker", trackers.names())
def test_the_error_without_weights_is_the_command_to_run(tracker):
    model = trackers.get(tracker).model
    if model is None or released.path(model):
        trackers.load_params(tracker)
        return
    with pytest.raises(trackers.WeightsError) as error:
        trackers.load_params(tracker)
    assert f"python -m eval.convert CHECKPOINT {model}.safetensors --tracker {tracker}" in str(error.value)
