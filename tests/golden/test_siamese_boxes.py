"""From the maps of a head to a box: what the references' trackers made of the same maps, frame after frame.

Heads are replaced by formula-defined maps. Boxes are compared at 1e-3 pixels: the references compute in float64.
"""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ops.boxes import Box
from tests.golden import formula
from tests.helpers import oracle
from trackers import siamfc, siamrpn
from trackers.base import FOUND, LOST, Frame

PYSOT = {
    "alex": siamrpn.ALEXNET,
    "r50_l234": siamrpn.RESNET50,
    "mobilev2_l234": siamrpn.MOBILENETV2,
    "r50_l234_otb": siamrpn.RESNET50_OTB,
}
DASIAMRPN = {"BIG": siamrpn.SIAMRPN_BIG, "vot": siamrpn.Config(), "otb": siamrpn.SIAMRPN_OTB}


@pytest.fixture
def given_maps(monkeypatch):
    """Trackers whose `params` are what the heads answer, by the side of the response."""

    def without_networks(module, key):
        make = module.make_matcher

        def matcher(config):
            return make(config)._replace(
                embed=lambda params, frame, box, fill: jnp.zeros(0),
                features=lambda params, images: jnp.zeros(0),
                match=lambda params, template, features: params[key(config)],
            )

        monkeypatch.setattr(module, "make_matcher", matcher)

    without_networks(siamrpn, siamrpn.score_size)
    without_networks(siamfc, lambda config: "response")


def settings():
    return oracle.settings()["post"]


def frame():
    extent = settings()["image"]
    return Frame(jnp.asarray(formula.image_u8(oracle.salt(), "post/image", *extent)), jnp.array(extent, jnp.int32))


def box(cx, cy, w, h):
    return Box(jnp.array([cy, cx], jnp.float32), jnp.array([h, w], jnp.float32))


def maps(name, size, *options):
    """Logits `[S, S, 2, 5]` and deltas `[S, S, 4, 5]` of the references' channels-first maps."""
    found = formula.siamrpn_maps(oracle.salt(), name, size, *options)
    return tuple(jnp.asarray(part[0].reshape(-1, 5, size, size).transpose(2, 3, 0, 1)) for part in found)


def numbers(box):
    return np.concatenate([box.center[::-1], box.size[::-1]])


def test_golden_numbers_of_the_settings():
    stored = oracle.arrays("post_pysot")
    for name, config in PYSOT.items():
        found = [config.penalty_k, config.window_influence, config.size_rate, config.instance_size, config.base_size]
        np.testing.assert_allclose(
            stored[f"{name}/params_penaltyk_window_lr_instance_base_context"], [*found, 0.5], rtol=1e-6
        )
        assert siamrpn.score_size(config) == stored[f"{name}/score_size"]


@pytest.mark.parametrize("name", PYSOT)
def test_golden_pysot(name, given_maps):
    stored = oracle.arrays("post_pysot")
    tracker = siamrpn.make(replace(PYSOT[name], rounding="pysot"))
    track = jax.jit(tracker.track)
    for start, (x, y, w, h) in enumerate(stored[f"{name}/init_boxes_xywh"]):
        state = tracker.init({}, jax.random.key(0), frame(), box(x + (w - 1) / 2, y + (h - 1) / 2, w, h))
        for t in range(settings()["frames"]):
            size = int(stored[f"{name}/score_size"])
            before_after = stored[f"{name}/state_before_after_cxcywh"][start, t]
            np.testing.assert_allclose(numbers(state.box), before_after[:4], atol=1e-3)
            state, estimate = track({size: maps(f"{start}_{t}", size)}, state, frame())
            np.testing.assert_allclose(numbers(state.box), before_after[4:], atol=1e-3)
            assert int(estimate.extras["index"]) == stored[f"{name}/best_index"][start, t]
            x, y, w, h, score = stored[f"{name}/bbox_xywh_score"][start, t]
            np.testing.assert_allclose(numbers(estimate.box), [x + w / 2, y + h / 2, w, h], atol=1e-3)
            np.testing.assert_allclose(estimate.score, score, atol=1e-5)


def test_golden_pysot_long_term(given_maps):
    """Lost after the second frame: the next two are searched on a larger region, by the same trace."""
    stored = oracle.arrays("post_pysot")
    config = siamrpn.RESNET50_LT
    assert (config.lost.enter, config.lost.leave) == tuple(stored["lt/conf_low_high"])
    tracker = siamrpn.make(replace(config, rounding="pysot"))
    track = jax.jit(tracker.track)
    x, y, w, h = stored["lt/init_box_xywh"]
    state = tracker.init({}, jax.random.key(0), frame(), box(x + (w - 1) / 2, y + (h - 1) / 2, w, h))
    sizes = sorted({int(size) for size, _ in stored["lt/scoresize_instance"]})
    for t, bias in enumerate((9, -9, -9, 14, 9)[: settings()["lt_frames"]]):
        answers = {size: maps(f"lt_{t}", size, 1.0, 0.1, bias) for size in sizes}
        state, estimate = track(answers, state, frame())
        x, y, w, h, score = stored["lt/bbox_xywh_score"][t]
        np.testing.assert_allclose(numbers(estimate.box), [x + w / 2, y + h / 2, w, h], atol=1e-3)
        np.testing.assert_allclose(estimate.score, score, rtol=1e-4, atol=1e-6)
        assert int(estimate.verdict) == (LOST if stored["lt/lost_after"][t] else FOUND)
    assert track._cache_size() == 1


@pytest.mark.parametrize("rule, centers", [("py2_int_division", "floor"), ("py3_true_division", "true_division")])
def test_golden_dasiamrpn(rule, centers, given_maps):
    stored = oracle.arrays("post_dasiamrpn")
    for case, name in enumerate(stored["in_model"]):
        tracker = siamrpn.make(replace(DASIAMRPN[str(name)], rounding="dasiamrpn", centers=centers))
        state = tracker.init(
            {}, jax.random.key(0), frame(), box(*stored["in_pos_xy"][case], *stored["in_size_wh"][case])
        )
        size = int(stored[f"{rule}/instance_scoresize"][case, 1])
        for t in range(settings()["frames"]):
            # The answer for the size that must not be asked for is another one.
            answers = {other: maps(f"das{case}_{t}", other) for other in (19, 21)}
            state, estimate = jax.jit(tracker.track)(answers, state, frame())
            expected = stored[f"{rule}/pos_sz_score"][case, t]
            np.testing.assert_allclose(numbers(estimate.box), expected[:4], atol=1e-3)
            np.testing.assert_allclose(estimate.score, expected[4], atol=1e-5)
        assert {0: 19, 1: 21}[int(state.usual)] == size


def test_golden_siamfc(given_maps):
    stored = oracle.arrays("post_siamfc")
    tracker = siamfc.make(replace(siamfc.Config(), rounding="siamfc"))
    track = jax.jit(tracker.track)
    for start, (x, y, w, h) in enumerate(stored["init_boxes_1based_xywh"] - [1, 1, 0, 0]):
        state = tracker.init({}, jax.random.key(0), frame(), box(x + (w - 1) / 2, y + (h - 1) / 2, w, h))
        for t in range(settings()["frames"]):
            response = formula.normal(oracle.salt(), f"post/siamfc{start}_{t}", (3, 1, 17, 17))[:, 0]
            answer = siamfc.Response(jnp.asarray(response), jnp.zeros(()))
            state, estimate = track({"response": answer}, state, frame())
            cy, cx, h, w, _, _ = stored["state_cyx_hw_zsz_xsz"][start, t]
            np.testing.assert_allclose(numbers(estimate.box), [cx, cy, w, h], atol=1e-3)
            x, y, w, h = stored["boxes_1based_xywh"][start, t] - [1, 1, 0, 0]
            np.testing.assert_allclose(numbers(estimate.box), [x + (w - 1) / 2, y + (h - 1) / 2, w, h], atol=1e-3)
