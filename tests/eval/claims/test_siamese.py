"""The figures of the Siamese papers' findings: what is measured is right, and the commands write it."""

import json

import cv2
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import trackers
from eval.claims import siamese
from eval.sources import layouts
from ops.boxes import Box
from trackers import siamrpn
from trackers.nets import rpn
from trackers.parts import templates
from trackers.parts.templates import Grid, Matcher, Proposals
from trackers.weights import files


@pytest.fixture
def clips(tmp_path):
    """Two sequences of a white square of 32 pixels before gray."""
    for name in ("a", "b"):
        folder = tmp_path / "clips" / name
        (folder / "img").mkdir(parents=True)
        boxes = []
        for index in range(3):
            image = np.full((240, 320, 3), 60, np.uint8)
            x, y = 120 + 4 * index, 100
            image[y : y + 32, x : x + 32] = 255
            assert cv2.imwrite(str(folder / "img" / f"{index + 1:04}.png"), image)
            boxes.append([x, y, 32, 32])
        np.savetxt(folder / "groundtruth_rect.txt", boxes, fmt="%d", delimiter=",")
    return tmp_path / "clips"


def bright_matcher(window):
    """A matcher whose score is the brightness of each cell times `window` `[S, S]`."""

    def make(config):
        cells = siamrpn.score_size(config)
        first = (config.instance_size - 1) // 2 - cells // 2 * templates.STRIDE
        places = first + templates.STRIDE * np.arange(cells)

        def region(frame, box, fill):
            side = templates.context_side(box.size) * config.instance_size / templates.EXEMPLAR_SIZE
            crop = templates.square_crop(frame, box.center, side, config.instance_size, fill, "continuous")
            return jax.tree.map(lambda leaf: leaf[None], crop)

        def match(params, template, features):
            return features[places][:, places] / 255 * window

        def decode(response, box):
            boxes = Box(*(jnp.zeros((1, cells, cells, 2)),) * 2)
            return Proposals(response[None], response[None], boxes, response[None], jnp.zeros((1, cells, cells), int))

        return Matcher(
            embed=lambda *_: (),
            describe=lambda *_: ((), ()),
            region=region,
            features=lambda params, images: images[0, :, :, 0],
            match=match,
            decode=decode,
            grid=Grid(cells, templates.STRIDE, cells // 2),
        )

    return make


@pytest.mark.full
@pytest.mark.parametrize("biased", [False, True])
def test_center_bias(clips, monkeypatch, biased):
    """A score that is the same everywhere is measured as such, and one that falls from the middle as falling."""
    config = siamrpn.MOBILENETV2_1_0
    cells = siamrpn.score_size(config)
    window = np.outer(np.hanning(cells + 2), np.hanning(cells + 2))[1:-1, 1:-1] if biased else np.ones((cells, cells))
    monkeypatch.setattr(siamrpn, "make_matcher", bright_matcher(window))
    shown = list(siamese.examples(layouts.read_dataset("folder", clips, None, []), frames=2))
    assert [one.name for one in shown] == ["a", "a", "b", "b"]
    found = siamese.measure_center_bias({}, config, shown, places=60)
    middle, corner = found.response[cells // 2, cells // 2], found.response[3, 3]
    if biased:
        assert np.all(np.diff(found.score) < 0) and found.score[-1] < 0.6
        assert middle > 2 * corner
    else:
        np.testing.assert_allclose(found.score, 1, atol=0.01)  # the square is white
        assert abs(middle - corner) < 0.15


@pytest.mark.full
@pytest.mark.parametrize("weighted", [False, True])
def test_with_level(rng, weighted):
    """The levels' own scores, in their shares, make the whole head's."""
    head = rpn.DepthwiseRPN((4, 4), weighted=weighted)
    z, x = ([jnp.asarray(rng.normal(size=(1, size, size, 4)), jnp.float32)] * 2 for size in (3, 4))
    params = {"head": head.init(jax.random.key(0), z, x)}
    if weighted:
        params["head"]["params"]["cls_weight"] = jnp.array([0.5, -0.5])
    run = jax.jit(head.apply)
    shares = siamese.levels(params)
    alone = {name: run(siamese.with_level(params, name)["head"], z, x) for name in shares["cls"]}
    for output, whole, index in zip(("cls", "loc"), run(params["head"], z, x), range(2)):
        parts = sum(share * alone[name][index] for name, share in shares[output].items())
        np.testing.assert_allclose(parts, whole, atol=1e-5)  # sums of products of order 1
        assert np.abs(alone["level 1"][index] - alone["level 2"][index]).max() > 1e-3
    assert shares["cls"]["level 1"] == pytest.approx(1 / (1 + np.exp(-1)) if weighted else 0.5)


@pytest.mark.full
def test_levels_command(clips, tmp_path, capsys):
    name = "siamrpnpp_mobilenetv2_1.0"
    weights, out = tmp_path / "weights.safetensors", tmp_path / "figures" / "levels.png"
    files.save(weights, trackers.init_params(name, jax.random.key(0)), model=name)
    command = ["levels", "--tracker", name, "--weights", str(weights), "--data_dir", str(clips), "--sequences", "a"]
    assert siamese.main([*command, "--out", str(out)]) == 0
    assert "shares: level 1 0.333" in capsys.readouterr().out
    image = cv2.imread(str(out))
    assert image.shape[1] > 800 and image.std() > 20


@pytest.mark.full
def test_heads_command(tmp_path, capsys):
    out = tmp_path / "heads.json"
    assert siamese.main(["heads", "--out", str(out)]) == 0
    up_channel, depthwise = json.loads(out.read_text())["rows"]
    # 3 x 3 convolutions 256 -> 256 k with bias for 10 + 20 kernels, two 256 -> 256 for the search region, 20 x 20
    assert up_channel["parameters"] == 9 * 256 * 256 * 30 + 256 * 30 + 2 * (9 * 256 * 256 + 256) + 20 * 20 + 20
    assert up_channel["parameters"] > 6 * depthwise["parameters"]
    assert "| depthwise |" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (["levels", "--tracker", "siamfc"], "siamfc is not of the SiamRPN family"),
        (["center-bias", "--weights", "0=nowhere.safetensors"], "nowhere.safetensors"),
    ],
)
def test_errors(clips, tmp_path, capsys, command, said):
    out = tmp_path / "figure.png"
    assert siamese.main([*command, "--data_dir", str(clips), "--out", str(out)]) == 1
    assert said in capsys.readouterr().err
    assert not out.exists()
