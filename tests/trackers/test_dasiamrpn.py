"""Distractor-aware re-ranking and the growing search region, on answers that a network could give."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ops.boxes import Box
from trackers import dasiamrpn, siamrpn
from trackers.base import FOUND, LOST, UNCERTAIN, Frame
from trackers.dasiamrpn import DistractorConfig, Sums
from trackers.nets import siamese
from trackers.nets.siamese import Features
from trackers.parts.templates import EXEMPLAR_SIZE, LostConfig, context_side

SIZE, CELLS = 191, 9  # of the search region and its score map
TAP = 14  # cells of a side of the features of a search region
EXEMPLAR = 0  # no side of a score map
TARGET = 64.0  # crop pixels of a side; the middle anchor fits it


def rows(rng, count, channels=8):
    features = rng.normal(size=(count, 6, 6, channels))
    return jnp.asarray(features / np.sqrt((features**2).sum((1, 2, 3), keepdims=True)), jnp.float32)


@pytest.mark.parametrize("average", ("paper", "exponential"))
def test_incremental_sums_equal_the_sums_over_all_frames(rng, average):
    """Eq. 5 of the paper written out: weights beta_t = sum_{i < t} (eta / (1 - eta))^i; or those of a running mean."""
    options = DistractorConfig(rate=0.2, average=average)
    frames, count = 12, 5
    targets, others = rows(rng, frames), [rows(rng, count) for _ in range(frames)]
    chosen = rng.random((frames, count)) < 0.4
    chosen[:2] = False  # nothing was seen at first
    nothing = jnp.zeros_like(targets[0])
    sums = Sums(jnp.ones(()), targets[0], jnp.ones(()), nothing, jnp.zeros(()))
    proposals = rows(rng, 7)
    add = jax.jit(dasiamrpn.add, static_argnames="options")
    for t in range(1, frames):
        sums = add(sums, targets[t], others[t], jnp.asarray(chosen[t]), options=options)

        ratio = options.rate / (1 - options.rate)
        beta = np.array([sum(ratio**i for i in range(s + 1)) for s in range(t + 1)])
        if average == "exponential":
            beta = np.array([(options.rate if s else 1.0) * (1 - options.rate) ** (t - s) for s in range(t + 1)])
        target = np.tensordot(beta, np.asarray(targets[: t + 1], np.float64), 1) / beta.sum()
        seen = chosen[: t + 1].copy()
        seen[0] = False  # frame 1 shows the template alone
        weights = beta[:, None] * seen
        every = np.asarray(others[: t + 1], np.float64)
        distractors = np.tensordot(weights, every, 2) / max(weights.sum(), 1e-12)
        expected = np.tensordot(np.asarray(proposals, np.float64), target - options.influence * distractors, 3)
        np.testing.assert_allclose(dasiamrpn.similarity(sums, proposals, options), expected, rtol=1e-5, atol=1e-6)


def test_a_square_of_the_exemplar_is_the_whole_exemplar(rng):
    """A constant map cut anywhere inside has equal cells; a shift by 8 pixels is one of the cells."""
    tap = jnp.asarray(rng.normal(size=(TAP, TAP, 3)), jnp.float32)
    offset = jnp.array([[0.0, 0.0], [8.0, 0.0], [0.0, -16.0]])
    here, down, left = dasiamrpn.describe(tap, offset, jnp.full(3, float(EXEMPLAR_SIZE)))
    np.testing.assert_allclose(jnp.sum(here**2), 1, rtol=1e-5)

    def ratio(one, other):  # unit lengths differ, the pattern does not
        return np.asarray(one / other)

    np.testing.assert_allclose(np.ptp(ratio(down[:5], here[1:])), 0, atol=1e-3)
    np.testing.assert_allclose(np.ptp(ratio(left[:, 2:], here[:, :4])), 0, atol=1e-3)
    constant = dasiamrpn.describe(jnp.ones((TAP, TAP, 1)), jnp.zeros((1, 2)), jnp.array([100.0]))
    np.testing.assert_allclose(constant, 1 / 6, rtol=1e-5)


# A scene in the coordinates of the crop, whose middle the target's last box is at.


def frame():
    ground = np.kron(np.arange(25).reshape(5, 5, 1) * [4, 6, 8], np.ones((80, 80, 1)))  # a blank one shows no target
    return Frame(jnp.asarray(ground, jnp.uint8), jnp.array([400, 400], jnp.int32))


def start_box():
    return Box(jnp.array([200.0, 200.0]), jnp.array([TARGET, TARGET]))


def answer(scores, looks, rng, cells=CELLS, tap=TAP):
    """What the heads say, and the features: objects at places (y, x) of the score map, each with its score and look."""
    logits = np.full((cells, cells, 2, 5), -8.0, np.float32)
    logits[..., 0, :] = 0
    taps = 0.05 * rng.normal(size=(tap, tap, 8))
    for (y, x), score in scores.items():
        logits[y, x, 1, 2] = np.log(score / (1 - score))
        middle = np.array([y, x]) - cells // 2 + (tap - 1) / 2
        first = np.floor(middle - 2).astype(int)
        taps[first[0] : first[0] + 5, first[1] : first[1] + 5] += looks[(y, x)]
    deltas = np.zeros((cells, cells, 4, 5), np.float32)
    return (jnp.asarray(logits), jnp.asarray(deltas)), (jnp.asarray(taps[None], jnp.float32),)


@pytest.fixture
def given_answers(monkeypatch):
    """`params` are {side of the score map: answer}, and at EXEMPLAR the features of the template."""
    make = siamrpn.make_matcher

    def matcher(config):
        cells = siamrpn.score_size(config)
        return make(config)._replace(
            embed=lambda params, frame, box, fill: jnp.zeros(0),
            features=lambda params, images: Features((), params[cells][1]),
            match=lambda params, template, features: params[cells][0],
        )

    networks = siamese.make("siamrpn")._replace(exemplar_taps=lambda params, images: (params[EXEMPLAR],))
    monkeypatch.setattr(siamrpn, "make_matcher", matcher)
    monkeypatch.setattr(siamese, "make", lambda model: networks)


def config(**changes):
    rpn = replace(siamrpn.Config(), instance_size=SIZE, window_influence=0.0, **changes)
    return dasiamrpn.Config(rpn, DistractorConfig(proposals=4))


def test_a_twin_that_scores_higher_is_not_followed(given_answers, rng):
    """Two objects that look alike but for a detail. Once the twin scores higher, plain SiamRPN jumps to it."""
    look, detail = rng.normal(size=(2, 8))
    twin = look + 0.8 * detail
    places = {(4, 4): 0.9, (4, 0): 0.85}
    looks = {(4, 4): look, (4, 0): twin}
    exemplar = jnp.asarray(0.05 * rng.normal(size=(1, 6, 6, 8)) + look, jnp.float32)
    quiet = {CELLS: answer(places, looks, rng), EXEMPLAR: exemplar}
    swapped = {CELLS: answer({(4, 4): 0.85, (4, 0): 0.95}, looks, rng), EXEMPLAR: exemplar}

    def last_offset(config):
        tracker = dasiamrpn.make(config)
        state = tracker.init(quiet, jax.random.key(0), frame(), start_box())
        track = jax.jit(tracker.track)
        for answers in (quiet, quiet, quiet, swapped):
            state, _ = track(answers, state, frame())
        return np.asarray(state.box.center - start_box().center)

    aware = last_offset(config())
    plain = last_offset(replace(config(), distractors=None))
    np.testing.assert_allclose(aware, 0, atol=1e-3)
    scale = float(context_side(start_box().size)) / EXEMPLAR_SIZE
    np.testing.assert_allclose(plain, [0, -32 * scale], rtol=0.02)  # the anchor is not quite of the size it had


def test_a_frame_without_the_target_teaches_nothing(given_answers, rng):
    lost = LostConfig(enter=0.8, leave=0.95, sizes=(SIZE,), window_influence=0.0)
    tracker = dasiamrpn.make(config(lost=lost))
    exemplar = jnp.asarray(rng.normal(size=(1, 6, 6, 8)), jnp.float32)
    place = {(4, 4): np.ones(8)}
    seen, unseen = ({CELLS: answer({(4, 4): score}, place, rng), EXEMPLAR: exemplar} for score in (0.97, 0.3))
    state = tracker.init(seen, jax.random.key(0), frame(), start_box())
    track = jax.jit(tracker.track)
    before, _ = track(seen, state, frame())
    after, estimate = track(unseen, before, frame())
    assert int(estimate.verdict) == LOST
    jax.tree.map(np.testing.assert_array_equal, after.remembered, before.remembered)
    again, _ = track(seen, after, frame())
    assert float(again.remembered.target_weight) > float(after.remembered.target_weight)
    assert float(before.remembered.target_weight) > float(state.remembered.target_weight)


def test_the_search_grows_while_the_target_is_lost_and_shrinks_when_it_is_back(given_answers, rng):
    """One size more a frame up to the last one; a middling score goes on with the wide region, a high one ends it."""
    lost = LostConfig(enter=0.8, leave=0.95, sizes=(SIZE + 16, SIZE + 32), window_influence=0.0)
    tracker = dasiamrpn.make(replace(config(lost=lost), distractors=None))
    exemplar = jnp.ones((1, 6, 6, 8))
    state = tracker.init({EXEMPLAR: exemplar}, jax.random.key(0), frame(), start_box())
    track = jax.jit(tracker.track)

    def step(state, *scores):
        """The three sizes answer with different scores, so that the score tells which one was looked at."""
        answers = {EXEMPLAR: exemplar}
        for extra, score in zip((0, 2, 4), scores):
            middle = (CELLS + extra) // 2
            looks = {(middle, middle): np.ones(8)}
            answers[CELLS + extra] = answer({(middle, middle): score}, looks, rng, CELLS + extra, TAP + extra)
        state, estimate = track(answers, state, frame())
        return state, round(float(estimate.score), 3), int(estimate.verdict)

    expected = [
        ((0.9, 0.1, 0.1), 0.9, FOUND),
        ((0.5, 0.1, 0.1), 0.5, LOST),
        ((0.99, 0.6, 0.1), 0.6, LOST),
        ((0.99, 0.1, 0.7), 0.7, LOST),
        ((0.99, 0.1, 0.71), 0.71, LOST),
        ((0.99, 0.1, 0.9), 0.9, UNCERTAIN),
        ((0.99, 0.1, 0.96), 0.96, FOUND),
        ((0.85, 0.1, 0.1), 0.85, FOUND),
    ]
    for scores, score, verdict in expected:
        state, *found = step(state, *scores)
        assert found == [score, verdict]
    assert track._cache_size() == 1
