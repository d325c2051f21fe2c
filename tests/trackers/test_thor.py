"""THOR around a host that a page holds: normalized correlation of small color patches, no network."""

from dataclasses import replace
from functools import lru_cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import trackers
from ops.boxes import Box, iou, to_xywh
from tests.golden import formula
from tests.helpers import oracle
from trackers import base, siamfc, siamrpn, thor
from trackers.images import xywh_to_box
from trackers.nets import models
from trackers.nets.siamese import Features
from trackers.parts import templates
from trackers.parts.templates import Grid, Matcher, Proposals
from trackers.weights import files

CELLS, REGION = 14, 42  # of a side of a template and of the search region
PIXEL = 2.0  # image pixels of a cell
PLACES = REGION - CELLS + 1
CONFIG = replace(
    thor.SIAMFC_OTB_DYNAMIC,
    short_slots=2,
    long_slots=3,
    lower_bound=0.3,
    iou_threshold=0.6,
    tukey_alpha=0.0,
    dilation=2,
)
HOST_ALONE = replace(CONFIG, short_slots=0, long_slots=1, modulate=False)


def patch_matcher(on_describe=lambda: None) -> Matcher:
    """A place's score is its correlation with the template, 0..1; the size never changes."""
    offset = np.arange(PLACES) - PLACES // 2
    grid = jnp.asarray(np.stack(np.meshgrid(offset, offset, indexing="ij"), -1)[None], jnp.float32)
    taper = jnp.asarray(np.outer(np.hanning(PLACES + 2)[1:-1], np.hanning(PLACES + 2)[1:-1])[None], jnp.float32)

    def unit(patch):
        patch = patch - jnp.mean(patch)
        return patch / jnp.sqrt(jnp.sum(patch**2) + 1e-6)

    def describe(params, frame, box, fill):
        on_describe()
        side = jnp.asarray(PIXEL * CELLS)
        template = unit(templates.square_crop(frame, box.center, side, CELLS, fill, "continuous").image)[None]
        return template, (template,)

    def region(frame, box, fill):
        side = jnp.asarray(PIXEL * REGION)
        crop = templates.square_crop(frame, box.center, side, REGION, fill, "continuous")
        return jax.tree.map(lambda leaf: leaf[None], crop)

    def match(params, template, features):
        def at(place):
            y, x = place // PLACES, place % PLACES
            window = jax.lax.dynamic_slice(features.search[0], (y, x, 0), (CELLS, CELLS, 3))
            return jnp.sum(unit(window) * template[0])

        return jax.vmap(at)(jnp.arange(PLACES**2)).reshape(PLACES, PLACES)

    def decode(response, box):
        score = (response[None] + 1) / 2
        center = box.center[None, None, None] + grid * PIXEL
        boxes = Box(center, jnp.broadcast_to(box.size[None, None, None], center.shape))
        crop = jnp.zeros(score.shape, jnp.int32)
        return Proposals(score, 0.9 * score + 0.1 * taper, boxes, jnp.zeros_like(score), crop)

    return Matcher(
        lambda *args: describe(*args)[0],
        describe,
        region,
        lambda params, images: Features(images, ()),
        match,
        decode,
        Grid(PLACES, 1, PLACES // 2),
    )


def tracker(config, matcher=None):
    matcher = matcher or patch_matcher()
    memory = None if config is None else thor.make_memory(config, matcher)
    return templates.compose(
        (matcher,), (), follow=lambda old, choice, frame: templates.damped(old, choice), memory=memory
    )


def texture(rng, side=6):
    """A square of 24 pixels, of `side` x `side` plain colors."""
    return np.kron(rng.uniform(0, 255, (side, side, 3)), np.ones((24 // side, 24 // side, 1)))


@lru_cache
def scene():
    """A target that turns its other side while it passes what looks like its first one, and turns back.

    (frames, boxes x, y, w, h).
    24 frames as at first, 16 in which one look becomes the other, 24 as the other, 16 back, 8 as at first.
    """
    rng = np.random.default_rng(3)
    front, back, other = texture(rng), texture(rng), texture(rng)
    ground = np.kron(rng.uniform(90, 160, (28, 40, 3)), np.ones((4, 4, 1)))
    turned = np.concatenate([np.zeros(24), np.linspace(0, 1, 16), np.ones(24), np.linspace(1, 0, 16), np.zeros(8)])
    images, boxes = [], []
    for t, share in enumerate(turned):
        image = ground.copy()
        x, y = 20 + t, 46 + round(2 * np.sin(t / 8))
        image[19:43, 80:104] = 0.7 * front + 0.3 * other
        image[y : y + 24, x : x + 24] = (1 - share) * front + share * back
        images.append(np.clip(image, 0, 255).astype(np.uint8))
        boxes.append([x, y, 24, 24])
    return np.array(images), np.array(boxes, np.float64)


def frames_of(images):
    extent = np.tile(np.array(images.shape[1:3], np.int32), (len(images), 1))
    return jax.tree.map(jnp.asarray, base.Frame(images, extent))


@lru_cache
def overlaps(config):
    """IoU with the truth in every frame after the first, and the state after the last."""
    images, boxes = scene()
    frames, start = frames_of(images), xywh_to_box(boxes[0])
    whole = tracker(config)
    state = jax.jit(whole.init)({}, jax.random.key(0), jax.tree.map(lambda leaf: leaf[0], frames), start)
    rest = jax.tree.map(lambda leaf: leaf[1:], frames)
    state, estimates = jax.jit(base.track_chunk(whole))({}, state, rest)
    return np.asarray(iou(to_xywh(estimates.box), jnp.asarray(boxes[1:], jnp.float32))), state, estimates


@pytest.mark.full
def test_the_memory_follows_a_target_that_turns_and_turns_back():
    """The first template alone goes to the twin once the target shows its other side."""
    with_memory, state, _ = overlaps(CONFIG)
    alone = overlaps(None)[0]
    assert with_memory.min() > 0.6
    assert alone[:24].min() > 0.6 and alone[32:80].max() < 0.1
    # Both sides are known at the end, long after the other side was seen last.
    images, boxes = scene()
    frames, matcher = frames_of(images), patch_matcher()
    for index in (0, 50):
        frame = jax.tree.map(lambda leaf, index=index: leaf[index], frames)
        look = matcher.embed({}, frame, xywh_to_box(boxes[index]), jnp.full(3, 125.0))
        assert float(jnp.max(state.remembered.long.vectors @ look.reshape(-1))) > 0.9
    similarity = state.remembered.long.gram / state.remembered.long.gram[0, 0]
    assert float(jnp.min(similarity)) < 0.5


def test_without_a_memory_it_is_the_host():
    bare, _, expected = overlaps(None)
    found = overlaps(HOST_ALONE)[2]
    jax.tree.map(np.testing.assert_array_equal, found, expected)
    assert len(np.unique(bare)) > 1


@pytest.mark.parametrize("host", [siamfc.Config(instance_size=191), siamrpn.Config(instance_size=191)])
def test_without_a_memory_it_is_the_host_for_any_response(host, monkeypatch):
    """The same of the real hosts' way from a response to a box; networks are replaced by given maps."""
    module = siamfc if isinstance(host, siamfc.Config) else siamrpn
    make = module.make_matcher
    nothing = jnp.zeros((1, 2, 2, 1))
    monkeypatch.setattr(
        module,
        "make_matcher",
        lambda config: make(config)._replace(
            embed=lambda *_: nothing,
            describe=lambda *_: (nothing, (nothing,)),
            features=lambda params, images: Features(nothing, ()),
            match=lambda params, template, features: params,
        ),
    )
    image = jnp.asarray(formula.image_u8(oracle.salt(), "test/thor", 64, 64))
    frame = base.Frame(image, jnp.array([64, 64], jnp.int32))
    box = Box(jnp.array([30.0, 30.0]), jnp.array([14.0, 11.0]))
    both = {"host": module.make(host), "thor": thor.make(replace(HOST_ALONE, host=host))}
    states = {name: one.init({}, jax.random.key(0), frame, box) for name, one in both.items()}
    steps = {name: jax.jit(one.track) for name, one in both.items()}
    for t in range(3):
        if module is siamfc:
            maps = formula.normal(oracle.salt(), f"test/thor{t}", (3, 9, 9))
            response = siamfc.Response(jnp.asarray(maps), jnp.zeros(()))
        else:
            maps = formula.siamrpn_maps(oracle.salt(), f"test/thor{t}", 9)
            response = tuple(jnp.asarray(part[0].reshape(-1, 5, 9, 9).transpose(2, 3, 0, 1)) for part in maps)
        estimates = {}
        for name, step in steps.items():
            states[name], estimates[name] = step(response, states[name], frame)
        jax.tree.map(np.testing.assert_array_equal, estimates["thor"], estimates["host"])
    assert float(jnp.abs(estimates["host"].box.center - box.center).max()) > 0.1


def test_templates_are_made_at_their_frames_only_and_both_memories_agree_with_the_bank():
    calls = []
    whole = tracker(CONFIG, patch_matcher(lambda: jax.debug.callback(lambda: calls.append(1))))
    images, boxes = scene()
    frames = frames_of(images[:20])
    first = jax.tree.map(lambda leaf: leaf[0], frames)
    state = jax.jit(whole.init)({}, jax.random.key(0), first, xywh_to_box(boxes[0]))
    jax.effects_barrier()
    calls.clear()
    state, _ = jax.jit(base.track_chunk(whole))({}, state, jax.tree.map(lambda leaf: leaf[1:], frames))
    jax.effects_barrier()
    assert len(calls) == 19 // CONFIG.dilation == int(state.remembered.short.count)

    remembered = overlaps(CONFIG)[1].remembered
    vectors = np.concatenate([remembered.short.vectors, remembered.long.vectors])
    np.testing.assert_allclose(remembered.templates.reshape(vectors.shape), vectors, atol=1e-6)
    assert len(np.unique(vectors.round(5), axis=0)) > 3


def test_targets_that_began_at_different_frames_learn_at_their_own():
    """In one call: a template is due for one of them in every frame, and boxes are those of each target alone."""
    images, boxes = scene()
    frames = frames_of(images[:12])
    whole = tracker(CONFIG)
    init, track = jax.jit(whole.init), jax.jit(whole.track)
    together = jax.jit(jax.vmap(whole.track, (None, 0, None)))

    def at(index):
        return jax.tree.map(lambda leaf: leaf[index], frames)

    older = track({}, init({}, jax.random.key(0), at(0), xywh_to_box(boxes[0])), at(1))[0]
    alone = [older, init({}, jax.random.key(0), at(1), xywh_to_box(boxes[1]))]
    state = jax.tree.map(lambda *leaves: jnp.stack(leaves), *alone)
    for index in range(2, 12):
        state, found = together({}, state, at(index))
        alone, expected = zip(*[track({}, one, at(index)) for one in alone])
        for side in ("center", "size"):
            sides = [getattr(one.box, side) for one in expected]
            np.testing.assert_allclose(getattr(found.box, side), np.stack(sides), atol=1e-4)
        np.testing.assert_array_equal(state.remembered.short.count, [one.remembered.short.count for one in alone])
    assert state.remembered.short.count.tolist() == [5, 5] and (state.remembered.frames == jnp.array([11, 10])).all()


def test_a_short_term_memory_that_lost_the_word_starts_anew(rng):
    first, second, third = jnp.asarray(rng.normal(size=(3, 1, 4, 4, 2)), jnp.float32)
    config = replace(CONFIG, bound="ensemble", lower_bound=0.0)

    def vector(template):
        return thor.comparable((template,), 0.0)

    remember = jax.jit(lambda remembered, template: thor.remember(remembered, template, vector(template), config))
    memory = thor.Remembered(
        templates=jnp.repeat(first[None], 5, 0),
        short=thor.template_memory.short_term(vector(first), 2),
        long=thor.template_memory.long_term(vector(first), 3),
        frames=jnp.int32(0),
        chosen=jnp.int32(0),  # the short-term memory was followed
        first_score=jnp.zeros(()),
    )
    kept = remember(memory, second)
    np.testing.assert_array_equal(kept.templates[:2], [second, first])
    anew = remember(kept._replace(chosen=jnp.int32(2)), third)
    np.testing.assert_array_equal(anew.templates[:2], [third, third])
    np.testing.assert_array_equal(anew.short.vectors, [vector(third)] * 2)
    np.testing.assert_array_equal(anew.templates[2], first)
    taken = np.asarray(anew.templates[2:]).reshape(3, -1)
    np.testing.assert_array_equal(taken, anew.long.vectors)


def test_modulation_favours_what_all_templates_see():
    """Two templates see the target, each with a place of its own that ranks higher; the product does not."""
    ranks = np.full((2, 1, 5, 5), 0.1, np.float32)
    ranks[:, 0, 2, 2] = 0.8
    ranks[0, 0, 0, 0] = ranks[1, 0, 4, 4] = 0.9
    found = thor.modulated(jnp.asarray(ranks))
    assert [int(jnp.argmax(one)) for one in found] == [12, 12]
    assert float(jnp.max(found)) == pytest.approx(0.8)


def test_tempering_takes_the_border_out_of_the_comparison(rng):
    taps = (
        jnp.asarray(rng.normal(size=(1, 6, 6, 3)), jnp.float32),
        jnp.asarray(rng.normal(size=(1, 7, 7, 2)), jnp.float32),
    )
    whole = thor.comparable(taps, 0.0)
    np.testing.assert_array_equal(whole, np.concatenate([np.asarray(tap).reshape(-1) for tap in taps]))
    tempered = np.asarray(jax.jit(thor.comparable)(taps, 1.0))
    first, second = tempered[: 6 * 6 * 3].reshape(6, 6, 3), tempered[6 * 6 * 3 :].reshape(7, 7, 2)
    assert not first[0].any() and not first[:, -1].any() and not second[-1].any()
    np.testing.assert_allclose(second[3, 3], taps[1][0, 3, 3], rtol=1e-6)


def test_it_takes_the_weights_of_its_host(tmp_path):
    shapes = models.expected_variables("siamfc")
    params = jax.tree.map(lambda leaf: np.full(leaf.shape, 0.5, leaf.dtype), shapes)
    files.save(tmp_path / "siamfc.safetensors", params, model="siamfc")
    found = trackers.load_params("thor_siamfc", tmp_path / "siamfc.safetensors")
    jax.tree.map(np.testing.assert_array_equal, found, params)
    with pytest.raises(trackers.WeightsError, match="made for model siamfc; needed is siamrpn"):
        trackers.load_params("thor_siamrpn", tmp_path / "siamfc.safetensors")
