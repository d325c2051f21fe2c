"""The clip generator: its boxes and visibility against its own pixels, and what a seed promises."""

import dataclasses

import numpy as np
import pytest

from eval.sources import synthetic
from eval.sources.synthetic import HARD, ClipConfig, clip, make_scene, render

SMALL = dict(height=96, width=128, num_frames=24, target_size=(20.0, 30.0))


def silhouette(scene, t):
    """`[H, W]` bool: the pixels the target covers by more than a sixth, as white paint turned black shows."""

    def painted(value):
        sprite, track = scene.target
        layer = sprite.layer.copy()
        layer[..., :3] = value * layer[..., 3:]
        return render(dataclasses.replace(scene, target=(sprite._replace(layer=layer), track)), t).image

    return (painted(255.0)[..., 0].astype(int) - painted(0.0)[..., 0]) > 42


@pytest.mark.parametrize("options", [{}, dict(rotation=25.0, deformation=0.08, camera_shake=1.5)])
@pytest.mark.parametrize("seed", range(6))
def test_the_box_is_the_extent_of_the_target(options, seed):
    config = ClipConfig(**SMALL, **options, occluders=0, noise=0.0)
    scene, errors = make_scene(config, seed), []
    for t in range(0, config.num_frames, 5):
        rows, columns = (np.flatnonzero(silhouette(scene, t).any(axis)) for axis in (1, 0))
        x, y, w, h = render(scene, t).box
        drawn = np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1])
        inside = np.clip([x, y, x + w, y + h], 0, [128, 96, 128, 96])
        errors.append(inside - drawn)
    assert np.abs(errors).max() < 1.6
    assert np.abs(np.mean(errors, axis=0)).max() < 0.75


@pytest.mark.parametrize("seed", range(4))
def test_visibility_is_the_share_of_the_target_that_is_not_hidden(seed):
    config = ClipConfig(**SMALL, noise=0.0, camera_pan=0.0)
    scene = make_scene(config, seed)
    bare = dataclasses.replace(scene, occluders=())
    for t in range(0, config.num_frames, 4):
        if render(bare, t).visibility > 0.999:
            share = silhouette(scene, t).sum() / silhouette(bare, t).sum()
            assert abs(render(scene, t).visibility - share) < 0.12


def test_an_occluder_hides_part_of_the_target_and_never_the_first_frame_much():
    visible = [[frame.visibility for frame in clip(ClipConfig(num_frames=90), seed)] for seed in range(5)]
    assert min(map(min, visible)) < 0.7
    assert min(first[0] for first in visible) > 0.6
    without = [frame.visibility for frame in clip(ClipConfig(num_frames=30, occluders=0), 0)]
    assert min(without) > 0.999


@pytest.mark.parametrize("seed", range(3))
def test_exit_and_reentry(seed):
    frames = list(clip(ClipConfig(num_frames=60, exit_reentry=True, occluders=0), seed))
    assert frames[0].visibility > 0.999 and frames[-1].visibility > 0.999
    gone = [frame for frame in frames if frame.visibility == 0]
    assert gone
    for frame in gone:
        x, y, w, h = frame.box
        assert x + w < 1 or y + h < 1 or x > 318 or y > 238


def test_a_seed_is_a_clip():
    config = ClipConfig(**SMALL, **HARD)
    first, again, other = (list(clip(config, seed)) for seed in (3, 3, 4))
    for a, b in zip(first, again):
        np.testing.assert_array_equal(a.image, b.image)
        np.testing.assert_array_equal(a.box, b.box)
    assert any((a.image != b.image).mean() > 0.5 for a, b in zip(first, other))
    scene = make_scene(config, 3)
    np.testing.assert_array_equal(render(scene, 17).image, first[17].image)


def test_types_ranges_and_sizes():
    config = ClipConfig(**SMALL)
    frames = list(clip(config, 0))
    assert len(frames) == 24
    for frame in frames:
        assert frame.image.shape == (96, 128, 3) and frame.image.dtype == np.uint8
        assert frame.box.shape == (4,) and frame.box.dtype == np.float64 and (frame.box[2:] > 4).all()
        assert 0 <= frame.visibility <= 1
    assert np.std(frames[0].image) > 10


@pytest.mark.parametrize("family", synthetic.FAMILIES)
def test_every_family_can_be_drawn_on_every_background(family, monkeypatch):
    monkeypatch.setattr(synthetic, "FAMILIES", (family,))
    boxes = [frame.box for seed in range(4) for frame in clip(ClipConfig(**{**SMALL, "num_frames": 2}), seed)]
    assert np.isfinite(boxes).all()


@pytest.mark.parametrize(
    "option",
    [dict(illumination=0.4), dict(motion_blur=0.9), dict(noise=0.0), dict(distractors=0), dict(rotation=30)],
)
def test_each_option_changes_the_picture(option):
    fast = dict(SMALL, speed=6.0)
    plain = list(clip(ClipConfig(**fast), 1))
    changed = list(clip(ClipConfig(**fast, **option), 1))
    assert any((a.image != b.image).any() for a, b in zip(plain, changed))


@pytest.mark.parametrize(
    ("field", "value"),
    [("height", 4), ("num_frames", 0), ("target_size", (9, 3)), ("target_size", (0, 3)), ("scale_change", 0)],
)
def test_impossible_settings_are_refused(field, value):
    with pytest.raises(ValueError):
        ClipConfig(**{field: value})
