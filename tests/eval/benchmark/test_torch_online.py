"""ATOM and DiMP in PyTorch, to which `eval.benchmark --torch` compares ours, compute the same, stage by stage."""

import dataclasses
from functools import partial
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import trackers
from eval.benchmark import torch_online
from eval.benchmark.torch_layers import LAYOUTS
from eval.sources.synthetic import ClipConfig, clip
from tests.helpers.narrow import REAL_RESNETS
from trackers import atom
from trackers.base import FOUND, Frame
from trackers.images import xywh_to_box
from trackers.nets import models
from trackers.parts import box_refinement, localization

torch = pytest.importorskip("torch", reason="PyTorch is only there to be compared with")

# Relative L2, float32, sums in another order. Networks and boxes: rounding alone. What is learned: a step length is a
# ratio of such sums, and conjugate gradient magnifies rounding from step to step.
ROUNDING, LEARNED = 1e-5, 1e-3

TRACKERS = ("dimp18", "dimp18_heads", pytest.param("dimp50", marks=pytest.mark.full), "atom", "atom_multiscale")


@pytest.fixture(scope="module", params=TRACKERS)
def ours(request):
    """A small variant of a tracker, nothing random in its samples, after frame 1: what PyTorch is compared with."""
    with pytest.MonkeyPatch.context() as patch:
        for name, model in REAL_RESNETS.items():
            patch.setitem(models._MODELS, name, model)
        entry = trackers.get(request.param)
        config = small(entry.config)
        params = lively(jax.device_get(models.init_variables(entry.model, jax.random.key(0))))
        first, second = clip(ClipConfig(96, 128, num_frames=2, target_size=(20.0, 24.0)), seed=0)
        box, stages, key = xywh_to_box(first.box), entry.make_parts(config), jax.random.key(1)
        frames = [Frame(example.image, np.array(example.image.shape[:2], np.int32)) for example in (first, second)]
        state = jax.device_get(jax.jit(stages.init)(params, key, frames[0], box)._replace(key=key))
        found = SimpleNamespace(config=config, model=entry.model, params=params, box=box, frames=frames, state=state)
        found.stages, found.key = stages, key
        state = jax.device_put(state)
        found.region = jax.jit(stages.crop)(state, frames[1])
        found.features = jax.jit(stages.features)(params, found.region.image)
        location = jax.jit(stages.localize)(state, frames[1], found.region, found.features)
        seen = {"center": state.box.center + np.float32([1.3, -0.7]), "score": np.float32(0.9)}  # inside the crop
        found.location = jax.device_get(location)._replace(verdict=np.int32(FOUND), **jax.device_get(seen))
        yield found


def small(config):
    augmentation = dataclasses.replace(
        config.augmentation,
        expanded_size=192,
        blurs=((2.0, 0.6),),
        rotations=(10.0, -45.0),
        random_shift=0.0,
        dropout_copies=0,
    )
    few = {"bins": 3, "scales": 5, "center_jitter": 0.0, "init_cg_steps": 4}
    scales = config.scale_filter and dataclasses.replace(config.scale_filter, **few)
    config = dataclasses.replace(
        config,
        region=dataclasses.replace(config.region, image_size=96),
        augmentation=augmentation,
        online=dataclasses.replace(config.online, memory_size=12),
        # Random networks are steep: rounding decides where whole steps lead, and only our pooling knows empty boxes.
        refinement=dataclasses.replace(config.refinement, steps=3, step_length=0.1, random_boxes=3),
        scale_filter=scales,
    )
    if isinstance(config, atom.Config):
        return dataclasses.replace(config, compressed_dim=8, init_gn_steps=2, init_cg_steps=3, cg_steps=3)
    return dataclasses.replace(config, init_steps=4)


def lively(params):
    """Every parameter and statistic random: what starts as 0 or 1 would hide a mistake."""
    rng = np.random.default_rng(0)

    def one(path, leaf):
        name = path[-1].key
        if name in ("scale", "var"):
            return rng.uniform(0.5, 1.5, leaf.shape).astype(np.float32)
        return (0.1 * rng.normal(size=leaf.shape)).astype(np.float32) if name in ("bias", "mean") else np.array(leaf)

    return jax.tree_util.tree_map_with_path(one, params)


def theirs(ours, layout) -> torch_online.Stages:
    return torch_online.make(ours.config, ours.model, ours.params, layout)


def mirrored(ours, state, layout) -> torch_online.State:
    """Our State in PyTorch."""
    samples = {name: torch.from_numpy(np.array(leaf)) for name, leaf in state.memory.samples.items()}
    samples["features"] = torch_online.torch_layers.images(np.array(state.memory.samples["features"]), layout)

    def memory(samples, of):
        return torch_online.Memory(samples, torch.from_numpy(np.array(of.weights)), int(of.count), int(of.last_slot))

    made = torch_online.State(
        *(np.array(side, float) for side in state.box),
        filter=torch.from_numpy(np.array(state.filter).transpose(2, 0, 1)[None].copy()),
        memory=memory(samples, state.memory),
        modulation=tuple(torch.from_numpy(np.array(vector)) for vector in state.modulation),
        frame_number=int(state.frame_number),
        lost_frames=int(state.lost_frames),
    )
    if hasattr(state, "projection"):
        made.projection = torch.from_numpy(np.array(state.projection).T.copy())[:, :, None, None]
    if state.scale_filter:
        rows = torch.from_numpy(channels_first(ours, state.scale_filter.memory.samples))
        filter = torch.from_numpy(channels_first(ours, state.scale_filter.filter))
        made.scales = torch_online.Scales(filter, memory({"rows": rows}, state.scale_filter.memory))
    return made


def channels_first(ours, described) -> np.ndarray:
    """Descriptors `[..., D]` of the scale filter, in the order of PyTorch's."""
    described, bins, parts = np.array(described), ours.config.scale_filter.bins, []
    *batch, size = described.shape
    channels = [ours.features.taps[name].shape[-1] for name in ours.config.scale_filter.taps]
    assert bins**2 * sum(channels) == size
    for part in np.split(described, np.cumsum([bins**2 * count for count in channels])[:-1], -1):
        parts.append(np.moveaxis(part.reshape(*batch, bins, bins, -1), -1, -3).reshape(*batch, -1))
    return np.concatenate(parts, -1)


def region_of(ours, layout) -> torch_online.Crop:
    image = torch_online.torch_layers.images(np.array(ours.region.image), layout)
    return torch_online.Crop(image, np.array(ours.region.center[0], float), float(ours.region.scale[0]))


def features_of(ours, layout) -> torch_online.Features:
    return torch_online.Features(
        *jax.tree.map(lambda leaf: torch_online.torch_layers.images(np.array(leaf), layout), tuple(ours.features))
    )


def location_of(ours) -> torch_online.Location:
    found = ours.location
    return torch_online.Location(np.array(found.center, float), float(found.score), int(found.verdict))


def image_of(frame: Frame):
    return torch.from_numpy(np.array(frame.image))


def assert_close(mine, other, tolerance=ROUNDING):
    mine, other = (np.asarray(each, np.float64) for each in (mine, other))
    assert mine.shape == other.shape
    assert np.linalg.norm(mine - other) <= tolerance * np.linalg.norm(mine)


def last(tensor) -> np.ndarray:
    """`[N, C, h, w]` as `[N, h, w, C]`."""
    return np.moveaxis(tensor.numpy(), 1, 3)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_crop_features_and_place(ours, layout):
    stages, state = theirs(ours, layout), mirrored(ours, ours.state, layout)
    region = stages.crop(state, image_of(ours.frames[1]))
    assert_close(ours.region.image, last(region.image))
    assert_close(ours.region.center[0], region.center)
    assert region.scale == pytest.approx(float(ours.region.scale[0]), rel=ROUNDING)

    found = stages.features(region_of(ours, layout).image)
    assert_close(ours.features.classification, last(found.classification))
    for name, tap in ours.features.taps.items():
        assert_close(tap, last(found.taps[name]))

    place = stages.localize(state, image_of(ours.frames[1]), region_of(ours, layout), features_of(ours, layout))
    located = jax.jit(ours.stages.localize)(ours.state, ours.frames[1], ours.region, ours.features)
    assert_close(located.center, place.center)
    assert place.score == pytest.approx(float(located.score), rel=1e-4) and place.verdict == int(located.verdict)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_overlaps_and_boxes(ours, layout, monkeypatch):
    """From the same proposals: the boxes after the ascent, and the one that is made of them and of the scale."""
    key = jax.random.split(ours.state.key)[1]
    if ours.config.use_iou_net:
        side, config = ours.config.region.image_size, ours.config.refinement
        located = ours.location.center, ours.state.box.size
        start = box_refinement.to_crop(
            trackers.Box(*located), ours.region.center[0], ours.region.scale[0], side, pixel_centers=False
        )
        drawn = torch.from_numpy(np.array(box_refinement.proposals(key, start, config)))
        monkeypatch.setattr(torch_online, "proposals", lambda box, config: drawn)
    args = ours.state, ours.frames[1], ours.region, ours.features, ours.location
    _, box, extras = jax.jit(ours.stages.refine)(ours.params, *args)

    state, stages = mirrored(ours, ours.state, layout), theirs(ours, layout)
    args = state, image_of(ours.frames[1]), region_of(ours, layout), features_of(ours, layout), location_of(ours)
    center, size = stages.refine(*args)
    assert_close(box.center, center)
    assert_close(box.size, size)
    assert not np.allclose(size, ours.state.box.size, rtol=1e-4)
    if ours.config.use_iou_net:
        variables = torch_online.torch_layers.tensors(ours.params["iou_net"], layout)
        with torch.no_grad():
            features = torch_online.iou_features(variables, features_of(ours, layout).taps)
        predict = partial(torch_online.predict_iou, variables, state.modulation, features)
        boxes, iou = torch_online.ascend(predict, drawn, config)
        assert_close(extras["proposal_ious"], iou.numpy())
        width, height = np.array(extras["proposals"].size).T[::-1] / float(ours.region.scale[0])
        assert_close(np.stack([width, height], 1), boxes[:, 2:].numpy())
        assert not np.allclose(boxes.numpy(), drawn.numpy(), atol=1e-3)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_memory_and_what_is_learned(ours, layout):
    """At a frame where both schedules have it."""
    number = np.int32(20)
    args = ours.region, ours.features, ours.location, ours.state.box
    state = ours.state._replace(frame_number=number)
    updated = jax.device_get(jax.jit(ours.stages.update)(ours.params, state, *args))
    mine = mirrored(ours, updated, layout)

    other = mirrored(ours, state, layout)
    box = other.center, other.size
    theirs(ours, layout).update(other, region_of(ours, layout), features_of(ours, layout), location_of(ours), box)
    assert other.frame_number == 21 and other.lost_frames == 0
    assert_close(mine.filter.numpy(), other.filter.numpy(), LEARNED)
    assert np.linalg.norm(other.filter.numpy() - mirrored(ours, state, layout).filter.numpy()) > 0
    assert_same_memory(mine.memory, other.memory)
    if mine.scales:
        assert_close(mine.scales.filter.numpy(), other.scales.filter.numpy(), LEARNED)
        assert_same_memory(mine.scales.memory, other.scales.memory)
        assert other.scales.memory.last_slot >= 0


def assert_same_memory(mine, other):
    assert (mine.count, mine.last_slot) == (other.count, other.last_slot)
    assert_close(mine.weights.numpy(), other.weights.numpy())
    assert mine.samples.keys() == other.samples.keys()
    for name, leaf in mine.samples.items():
        assert_close(leaf.numpy(), other.samples[name].numpy(), LEARNED)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_first_frame(ours, layout, monkeypatch):
    """The same samples, of every kind but dropout; ATOM starts from the same random values."""
    if isinstance(ours.config, atom.Config):
        monkeypatch.setattr(torch_online, "start_values", lambda channels, config: start_of(ours, channels))
    image = image_of(ours.frames[0])
    other = theirs(ours, layout).init(image, *(np.array(side, float) for side in ours.box))
    mine = mirrored(ours, ours.state, layout)
    assert_close(mine.filter.numpy(), other.filter.numpy(), LEARNED)
    assert_same_memory(mine.memory, other.memory)
    for vector, peer in zip(mine.modulation, other.modulation, strict=True):
        assert_close(vector.numpy(), peer.numpy())
    if mine.projection is not None:
        assert_close(mine.projection.numpy(), other.projection.numpy(), LEARNED)
    if mine.scales:
        assert_close(mine.scales.filter.numpy(), other.scales.filter.numpy(), LEARNED)
        assert_same_memory(mine.scales.memory, other.scales.memory)


def start_of(ours, channels):
    key_projection, key_filter = jax.random.split(jax.random.split(ours.key, 5)[2])
    dim, k = ours.config.compressed_dim, ours.config.kernel_size
    projection = np.array(jax.random.normal(key_projection, (channels, dim)) / channels**0.5)
    filter = np.array(jax.random.normal(key_filter, (k, k, dim)) / (dim * k * k))
    filter = torch.from_numpy(filter.transpose(2, 0, 1)[None].copy())
    return torch.from_numpy(projection.T.copy())[:, :, None, None], filter


def test_dropout_drops_whole_channels():
    config = dataclasses.replace(trackers.get("dimp18").config.augmentation, dropout_copies=3)
    features = torch.ones(2, 50, 4, 4)
    samples, origin = torch_online.with_dropout(features, config)
    assert origin == [0, 1, 0, 0, 0] and samples.shape == (5, 50, 4, 4)
    kept = samples[2:].numpy()
    assert (kept == kept[:, :, :1, :1]).all()
    np.testing.assert_allclose(np.unique(kept), [0, 1 / (1 - config.dropout_rate)], rtol=1e-6)


# Heights and rows of two peaks
PEAKS = (
    (0.9, 0.0, 9, 9),
    (0.1, 0.0, 9, 9),
    (0.9, 0.85, 9, 17),
    (0.9, 0.85, 1, 17),
    (0.9, 0.85, 18, 9),
    (0.9, 0.6, 9, 17),
    (0.9, 0.85, 9, 10),
)


def peaks() -> list[np.ndarray]:
    """Score maps with one peak, none, two near and two far, about as high or not."""
    maps = []
    for high, low, first, second in PEAKS:
        scores = np.zeros((19, 19), np.float32)
        scores[second, 9] = low
        scores[first, first] = high
        maps.append(scores)
    return maps


@pytest.mark.parametrize("index", range(len(PEAKS)))
def test_verdicts(index):
    config, scores = trackers.get("dimp18").config.localization, peaks()[index]
    previous, size = np.array([0.5, -0.3]), np.array([3.4, 2.7])
    mine = localization.locate(jnp.asarray(scores), jnp.asarray(scores), jnp.asarray(previous), size, config)
    displacement, score, verdict = torch_online.locate(scores, previous, size, config)
    np.testing.assert_array_equal(mine.displacement, displacement)
    assert score == float(mine.score) and verdict == int(mine.verdict)


def test_timed_in_a_process_of_its_own():
    config = trackers.get("dimp_tiny").config
    config = dataclasses.replace(
        config,
        region=dataclasses.replace(config.region, image_size=64),
        augmentation=dataclasses.replace(config.augmentation, expanded_size=128),
    )
    params = models.init_variables("dimp_tiny", jax.random.key(0))
    first, second = clip(ClipConfig(64, 80, num_frames=2, target_size=(16.0, 16.0)), seed=0)
    box = xywh_to_box(first.box)
    with torch_online.timed(config, "dimp_tiny", params, first.image, second.image, *box) as calls:
        assert list(calls) == [f"{name}, {layout}" for name in torch_online.CALLS for layout in LAYOUTS]
        assert all(0 < call() < 60 for call in calls.values())


@pytest.mark.parametrize("name", ["atom_filterbank", "atom_multiscale_search", "atom_vot", "memtrack"])
def test_what_is_not_there_is_said(name):
    assert "in PyTorch here" in torch_online.misfit(trackers.get(name).config)


def test_all_others_are_there():
    for name in ("atom", "atom_multiscale", "dimp18", "dimp18_heads", "dimp50", "dimp_tiny"):
        assert torch_online.misfit(trackers.get(name).config) is None
