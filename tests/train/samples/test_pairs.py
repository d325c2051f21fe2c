"""Pairs of crops: targets where their boxes say, which pairs are drawn, and what the device adds."""

from dataclasses import replace
from functools import lru_cache, partial

import cv2
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.helpers.drawn_targets import dataset, seen_box
from tests.helpers.noise_frames import assert_same
from train.samples import loader, samplers
from train.samples import pairs as siamese_data
from train.samples.anchor_targets import AnchorTargetConfig, anchor_targets
from train.samples.augment import ColorConfig, OcclusionConfig
from train.samples.loader import FrameError, PartConfig
from train.samples.pairs import PairCropConfig, View, draw_view, pair_crop

STYLES = {"siamfc": siamese_data.SIAMFC, "siamrpn": siamese_data.SIAMRPN}
TARGETS = AnchorTargetConfig(search_size=63, score_size=5)
SMALL = replace(
    siamese_data.SIAMRPN,
    template=PairCropConfig(size=31, shift=1.0, stretch=0.05),
    search=PairCropConfig(size=63, shift=16.0, stretch=0.18),
    exemplar_size=31,
    batch_size=4,
)
PLAIN = replace(siamese_data.PREPARE_SIAMFC, targets=None)  # changes nothing
OCCLUDED = OcclusionConfig(probability=0.5)
STILL = View(np.zeros(2), np.ones(2), "linear")


@lru_cache
def two_datasets():
    return dataset(), dataset("image", (1, 1, 1), code=2)


def pairs(datasets, config, count):
    mixture = samplers.mix(datasets, [1] * len(datasets), config.sampling)
    return [siamese_data.load_pair(datasets, mixture, config, index) for index in range(count)]


# Crops.


@pytest.mark.parametrize("part", ["template", "search"])
@pytest.mark.parametrize("style", STYLES)
def test_the_target_is_where_its_box_is(rng, style, part):
    """Enlarged and reduced; a bias of half a pixel, of the crop or of the image, would be seen.

    Without a shift or with: an edge is where linear interpolation of the image's pixels crosses the half. Reduced
    targets are sampled from ramps one image pixel wide, so single edges are less certain.
    """
    config = getattr(STYLES[style], part)
    config = replace(config, interpolations=("linear",))
    errors = []
    for scale in (1, 1, 1, 4) * 5:
        x, y, w, h = box = scale * np.array([*rng.integers(60, 100, 2), *rng.integers(20, 32, 2)])
        image = np.zeros((scale * 200, scale * 240, 3), np.uint8)
        image[y : y + h, x : x + w] = 255
        crop, found = pair_crop(image, box, draw_view(rng, config), config.size)
        assert crop.shape == (config.size, config.size, 3) and crop.dtype == np.uint8 and found.dtype == np.float32
        errors.append(seen_box(crop) - found)
    assert np.abs(errors).max() < 0.6
    assert np.abs(np.mean(errors, 0)).max() < 0.1


def test_crops_are_at_the_targets_own_scale(rng):
    """The context of the spec: s_z of the target in the crop is 127, whatever its size in the image."""
    image = np.zeros((100, 100, 3), np.uint8)
    for config in (siamese_data.SIAMFC, siamese_data.SIAMRPN):
        for size in (config.template.size, config.search.size):
            box = np.concatenate([rng.uniform(0, 50, 2), rng.uniform(2, 80, 2)])
            x, y, w, h = pair_crop(image, box, STILL, size)[1].astype(np.float64)
            np.testing.assert_allclose(np.sqrt((w + (w + h) / 2) * (h + (w + h) / 2)), 127, rtol=1e-6)
            np.testing.assert_allclose(w / h, box[2] / box[3], rtol=1e-6)
            np.testing.assert_allclose([x + w / 2, y + h / 2], (size - 1) / 2, atol=1e-4)


def test_boxes_are_those_of_two_warps_in_a_row(rng):
    """pysot stores crops of 511 pixels and then warps a window of them; here it is one warp of the frame."""
    for _ in range(20):
        box = np.concatenate([rng.uniform(0, 50, 2), rng.uniform(5, 80, 2)])
        view = draw_view(rng, siamese_data.SIAMRPN.search)
        _, found = pair_crop(np.zeros((9, 9, 3), np.uint8), box, view, 255)
        side = np.sqrt((box[2] + box[2:].sum() / 2) * (box[3] + box[2:].sum() / 2))
        stored = box[2:] * 127 / side
        corners = np.concatenate([255 - stored / 2, 255 + stored / 2])
        window = 255 - 127 * view.stretch + view.shift  # the side is 254 times the factor
        factor = 254 / (254 * view.stretch)
        expected = (corners - np.tile(window, 2)) * np.tile(factor, 2)
        np.testing.assert_allclose(found, np.concatenate([expected[:2], expected[2:] - expected[:2]]), atol=1e-3)


def test_outside_of_the_image_is_its_mean_color(rng):
    image = rng.integers(0, 255, (60, 80, 3), np.uint8)
    crop, _ = pair_crop(image, np.array([0.0, 0, 10, 10]), STILL, 127)
    np.testing.assert_allclose(crop[:28, :28].astype(float), np.broadcast_to(image.mean((0, 1)), (28, 28, 3)), atol=1)


def test_views_are_uniform(rng):
    config = PairCropConfig(size=9, shift=64.0, stretch=0.18, interpolations=("linear", "nearest"))
    views = [draw_view(rng, config) for _ in range(3000)]
    shifts, stretches = (np.stack([getattr(view, name) for view in views]) for name in ("shift", "stretch"))
    for drawn, limit in ((shifts / 64, 1), ((stretches - 1) / 0.18, 1)):
        assert np.abs(drawn).max() <= limit
        np.testing.assert_allclose(drawn.mean(0), 0, atol=0.05)
        np.testing.assert_allclose(drawn.std(0), 3**-0.5, atol=0.02)
        assert abs(np.corrcoef(drawn.T)[0, 1]) < 0.08
    assert 1300 < sum(view.interpolation == "nearest" for view in views) < 1700
    joint = [draw_view(rng, replace(config, joint=True)).stretch for _ in range(20)]
    assert np.ptp(joint, axis=1).max() == 0 < np.ptp(joint)


@pytest.mark.parametrize("interpolation", siamese_data.INTERPOLATIONS)
def test_interpolations_show_the_same(rng, interpolation):
    image = cv2.GaussianBlur(rng.integers(0, 255, (200, 200, 3), np.uint8), (0, 0), 6)
    box = np.array([70.0, 80, 40, 30])
    plain, _ = pair_crop(image, box, STILL, 127)
    other, _ = pair_crop(image, box, STILL._replace(interpolation=interpolation), 127)
    assert np.abs(plain.astype(int) - other).mean() < 2


# Pairs.


@pytest.mark.parametrize("style", STYLES)
def test_a_sample_of_each_style(style):
    config, datasets = STYLES[style], two_datasets()
    (sample,) = pairs(datasets, config, 1)
    sizes = {"siamfc": (127, 239), "siamrpn": (127, 255)}[style]
    assert sample["sample_ids"].shape == () and sample["sample_ids"].dtype == np.int64
    assert sample["negative"].shape == (1,) and sample["negative"].dtype == bool
    for part, size in zip(("template", "search"), sizes):
        assert sample[f"{part}_images"].shape == (1, size, size, 3) and sample[f"{part}_images"].dtype == np.uint8
        assert sample[f"{part}_boxes"].shape == (1, 4) and sample[f"{part}_boxes"].dtype == np.float32


@lru_cache
def many_pairs():
    return pairs(two_datasets(), SMALL, 300)


def test_boxes_of_pairs_are_where_their_targets_are():
    for sample in many_pairs()[:100]:
        for part in ("template", "search"):
            np.testing.assert_allclose(seen_box(sample[f"{part}_images"][0]), sample[f"{part}_boxes"][0], atol=0.7)


def code_of(image):
    """Of the sequence that most of an RGB crop shows."""
    return round(float(np.median(image[..., 2])) / 40)


def codes_of(pair):
    """Of the search image and of the template."""
    return tuple(code_of(pair[f"{part}_images"][0]) for part in ("search", "template"))


def test_negative_pairs_show_another_target():
    """Of a share of the samples; the others show one sequence, at most the gap apart, or one still image."""
    share = np.mean([sample["negative"][0] for sample in many_pairs()])
    assert 0.13 < share < 0.27
    datasets = two_datasets()
    mixture = samplers.mix(datasets, [1, 1], SMALL.sampling)
    for sample in many_pairs():
        shown = samplers.draw(mixture, SMALL.sampling, SMALL.seed, int(sample["sample_ids"]))
        template, search = (code_of(sample[f"{part}_images"][0]) for part in ("template", "search"))
        assert (template == search) == (not sample["negative"][0])
        if not sample["negative"][0]:
            assert search == shown.sequence + 2 * shown.dataset
            assert abs(shown.test_frames[0] - shown.train_frames[0]) <= SMALL.sampling.max_gap


def test_a_negative_pair_never_has_one_sequence():
    datasets = [dataset(lengths=(30, 30))]
    for sample in pairs(datasets, replace(SMALL, negative=1.0), 30):
        template, search = (code_of(sample[f"{part}_images"][0]) for part in ("template", "search"))
        assert sample["negative"][0] and template != search
    with pytest.raises(FrameError, match="sample 0: 100 draws gave no pair") as error:
        pairs([dataset(lengths=(30,))], replace(SMALL, negative=1.0), 1)
    assert "\n" not in str(error.value)


def test_negative_pairs_of_one_class():
    """Templates of the class that the search image shows, from another photograph; videos have no class."""
    names = ("a:0:dog", "a:1:dog", "b:0:dog", "b:1:cat", "c:0:cat")
    images = dataset("image", (1,) * len(names))
    images = images._replace(table=images.table._replace(names=names))
    config = replace(SMALL, negative=1.0, same_class=1.0)
    found = {codes_of(one) for one in pairs([images], config, 80)}
    assert found == {(0, 2), (1, 2), (2, 0), (2, 1), (3, 4), (4, 3)}
    codes = [codes_of(one) for one in pairs([images], replace(config, same_class=0.5), 80)]
    assert 0.5 < np.mean([pair in found for pair in codes]) < 0.9  # half of them, and others by chance
    assert not {(0, 1), (1, 0), (2, 3), (3, 2)} & set(codes)
    assert all(len({*codes_of(one)}) == 2 for one in pairs([dataset(lengths=(30, 30))], config, 5))
    with pytest.raises(FrameError, match="two photographs of it"):
        alone = ("a:0:dog", "a:1:dog", "b:0:cat", "c:0:hen", "d:0:elk")
        pairs([images._replace(table=images.table._replace(names=alone))], config, 1)


def test_a_still_image_is_read_once_and_seen_twice():
    datasets = [dataset("image", (1,))]
    sample, *_ = pairs(datasets, replace(SMALL, negative=0.0), 1)
    assert datasets[0].frames.reads == [0]
    ratio = sample["search_boxes"][0, 2:] / sample["template_boxes"][0, 2:]
    assert (abs(ratio - 1) < 0.3).all() and (ratio != 1).all()


def test_parts_of_still_images_are_targets():
    """One part in both crops of a positive pair: unmoved crops have the same box. Videos keep their boxes."""
    still = PairCropConfig(size=31, shift=0.0, stretch=0.0)
    config = replace(SMALL, template=still, search=still, parts=PartConfig(probability=1.0, min_side=2.0))
    whole = replace(config, parts=PartConfig())
    images, videos = [dataset("image", (1, 1, 1))], [dataset()]
    for one, other in zip(pairs(images, config, 30), pairs(images, whole, 30)):
        assert one["negative"] == other["negative"]
        same = (one["template_boxes"] == one["search_boxes"]).all()
        assert same != one["negative"][0]
        assert (one["search_boxes"] != other["search_boxes"]).any()
    for one, other in zip(pairs(videos, config, 5), pairs(videos, whole, 5)):
        np.testing.assert_array_equal(one["search_images"], other["search_images"])


def test_the_filter_leaves_out_boxes_by_the_size_of_their_image():
    """Boxes of 20 to 30 pixels in a frame of 90 x 120, and of 46 and more, above half of its height."""
    datasets = [dataset(lengths=(30,)), dataset("large", (30,), sides=(46, 50))]
    config = replace(SMALL, sampling=samplers.SIAMFC, negative=0.0)
    found = pairs(datasets, config, 20)
    assert not datasets[1].frames.reads == [] and len(found) == 20
    large_first = [index for index in range(20) if samplers.draw(
        samplers.mix(datasets, [1, 1], config.sampling), config.sampling, config.seed, index).dataset == 1]  # fmt: skip
    assert large_first
    for index in large_first:
        w, h = found[index]["template_boxes"][0, 2:]
        assert min(w / h, h / w) >= 20 / 30 * 0.9
    with pytest.raises(FrameError, match="sample 0: 100 draws gave no pair"):
        pairs(datasets[1:], config, 1)


def test_a_corrupt_image_is_named():
    datasets = [dataset("image", (1, 1), broken=1)]
    config = replace(SMALL, batch_size=8)
    batches = loader.batches(siamese_data.load_pair, datasets, [1], config, 1)
    with pytest.raises(FrameError, match=r"data set 'image', record 1 \(sequence 'image1', frame 0\)") as error:
        next(batches)
    assert "\n" not in str(error.value)


# Batches.


def load(config=SMALL, *, state=None, **process):
    batches = loader.batches(siamese_data.load_pair, two_datasets(), [1, 1], config, 3, **process)
    if state is not None:
        batches.set_state(state)
    found = list(batches)
    batches.close()
    return found


def test_batches_have_samples_on_axis_1_and_depend_on_nothing_but_their_number():
    whole = load()
    assert [batch["sample_ids"].tolist() for batch in whole] == [list(range(n, n + 4)) for n in (0, 4, 8)]
    assert {name: value.shape for name, value in whole[0].items()} == {
        "sample_ids": (4,),
        "negative": (1, 4),
        "template_images": (1, 4, 31, 31, 3),
        "template_boxes": (1, 4, 4),
        "search_images": (1, 4, 63, 63, 3),
        "search_boxes": (1, 4, 4),
    }
    np.testing.assert_array_equal(whole[1]["search_images"][:, 2], many_pairs()[6]["search_images"])
    shards = [load(process_index=index, process_count=2) for index in range(2)]
    joined = [
        {name: np.concatenate([part[name] for part in parts], min(1, parts[0][name].ndim - 1)) for name in parts[0]}
        for parts in zip(*shards)
    ]
    assert_same(joined, whole)
    assert_same(load(state={"next_batch": 1}), whole[1:])
    assert_same(load(replace(SMALL, workers=1, threads=2)), whole)


# On the device.


prepare = jax.jit(siamese_data.prepare, static_argnames="config")


@lru_cache
def batch():
    return {name: value for name, value in load()[0].items() if name != "sample_ids"}


def test_prepared_batch():
    config = replace(siamese_data.PREPARE_SIAMRPN, targets=TARGETS, blur_sizes=(5, 9), occlusion=OCCLUDED)
    out = prepare(jax.random.key(3), batch(), config)
    assert {name: (value.shape, str(value.dtype)) for name, value in out.items()} == {
        "template_images": ((4, 31, 31, 3), "float32"),
        "template_boxes": ((4, 4), "float32"),
        "search_images": ((4, 63, 63, 3), "float32"),
        "search_boxes": ((4, 4), "float32"),
        "negative": ((4,), "bool"),
        "labels": ((4, 5, 5, 5), "int32"),
        "deltas": ((4, 5, 5, 5, 4), "float32"),
        "weights": ((4, 5, 5, 5), "float32"),
    }
    again, other = (prepare(jax.random.key(seed), batch(), config) for seed in (3, 4))
    for name, value in out.items():
        np.testing.assert_array_equal(again[name], value)
    for name in ("template_images", "search_images"):
        assert (other[name] != out[name]).any((1, 2, 3)).all()
    assert (other["labels"] != out["labels"]).any()
    keys = jax.random.split(jax.random.key(3), (3, 4))[2]
    choose = jax.jit(partial(anchor_targets, config=TARGETS))
    negative = batch()["negative"][0]
    for row in range(4):
        expected = choose(keys[row], out["search_boxes"][row], negative[row])
        np.testing.assert_array_equal(out["labels"][row], expected.labels)
        np.testing.assert_allclose(out["deltas"][row], expected.deltas, atol=1e-5)


def test_nothing_is_changed_where_nothing_is_asked():
    out = prepare(jax.random.key(0), batch(), PLAIN)
    assert "labels" not in out
    for name, value in out.items():
        np.testing.assert_array_equal(value, batch()[name][0])


def rows_of_pairs(rng, count, box=(20, 30, 11, 13)):
    """A batch of one pair repeated: a white target on dark noise."""
    x, y, w, h = box
    search = rng.integers(0, 60, (63, 63, 3), np.uint8)
    search[y : y + h, x : x + w] = 255
    template = rng.integers(0, 60, (31, 31, 3), np.uint8)
    template[5:16, 3:17] = 255
    parts = {
        "template_images": template,
        "template_boxes": np.array([2.5, 4.5, 14, 11], np.float32),
        "search_images": search,
        "search_boxes": np.array([x - 0.5, y - 0.5, w, h], np.float32),
        "negative": np.array(False),
    }
    return {name: np.broadcast_to(part, (1, count, *part.shape)) for name, part in parts.items()}


def test_mirrored_and_gray_are_both_images_or_none(rng):
    """And a mirrored target is where its box is."""
    pair = rows_of_pairs(rng, 64)
    config = replace(PLAIN, flip_probability=0.5, colors=ColorConfig(grayscale_probability=0.3))
    out = {name: np.asarray(value) for name, value in prepare(jax.random.key(1), pair, config).items()}
    flipped = {part: (out[f"{part}_boxes"] != pair[f"{part}_boxes"][0]).any(-1) for part in ("template", "search")}
    gray = {part: np.ptp(out[f"{part}_images"], axis=-1).max((1, 2)) < 1e-3 for part in ("template", "search")}
    for drawn, low, high in ((flipped, 18, 46), (gray, 7, 33)):
        np.testing.assert_array_equal(drawn["template"], drawn["search"])
        assert low < drawn["search"].sum() < high
    for part in ("template", "search"):
        for image, (x, y, w, h) in zip(out[f"{part}_images"], out[f"{part}_boxes"]):
            rows, columns = np.nonzero(image[..., 1] > 200)
            assert (columns.min() - 0.5, rows.min() - 0.5) == (x, y)
            assert (columns.max() + 0.5, rows.max() + 0.5) == (x + w, y + h)


def test_colors_shift_along_the_given_directions(rng):
    """One shift for all pixels of an image, another for each; its covariance is that of the directions."""
    pair = rows_of_pairs(rng, 400)
    out = prepare(jax.random.key(1), pair, replace(PLAIN, color_shift=1.0))
    shifts = {}
    for part in ("template", "search"):
        moved = pair[f"{part}_images"][0].astype(np.float32) - np.asarray(out[f"{part}_images"])
        assert np.ptp(moved, axis=(1, 2)).max() < 1e-3
        shifts[part] = moved[:, 0, 0].astype(np.float64)
    directions = np.array(siamese_data.COLOR_DIRECTIONS)
    expected = directions @ directions.T
    for moved in shifts.values():
        np.testing.assert_allclose(np.cov(moved.T), expected, atol=0.2 * expected.max())
    assert abs(np.corrcoef(shifts["template"][:, 2], shifts["search"][:, 2])[0, 1]) < 0.2


def test_brightness_contrast_and_saturation_are_drawn_for_each_image(rng):
    pair = rows_of_pairs(rng, 8)
    factors = (0.5, 0.9)
    colors = ColorConfig(brightness=factors, contrast=factors, saturation=factors)
    out = prepare(jax.random.key(2), pair, replace(PLAIN, colors=colors))
    for part in ("template", "search"):
        found, before = np.asarray(out[f"{part}_images"]), pair[f"{part}_images"][0].astype(np.float32)
        assert found.min() >= 0 and found.max() < 0.9 * 255
        for measure in (np.mean, np.std, lambda image: np.ptp(image, axis=-1).mean()):
            ratio = np.array([measure(after) / measure(image) for after, image in zip(found, before)])
            assert (ratio < 0.9).all() and np.ptp(ratio) > 0.02


def test_some_search_images_are_blurred_and_no_template_is(rng):
    pair = rows_of_pairs(rng, 200)
    config = replace(PLAIN, blur_probability=0.2, blur_sizes=(5, 9))
    out = prepare(jax.random.key(1), pair, config)
    np.testing.assert_array_equal(out["template_images"], pair["template_images"][0])
    blurred = (np.asarray(out["search_images"]) != pair["search_images"][0]).any((1, 2, 3))
    assert 22 < blurred.sum() < 60


def test_occlusion_hides_part_of_the_search_images_target(rng):
    """By what another pair's search image shows at the same place: here nothing white."""
    pair = dict(rows_of_pairs(rng, 64))
    pair["search_images"] = np.array(pair["search_images"])
    pair["search_images"][:, 1::2] = 7
    out = prepare(jax.random.key(1), pair, replace(PLAIN, occlusion=OCCLUDED))
    np.testing.assert_array_equal(out["template_images"], pair["template_images"][0])
    np.testing.assert_array_equal(out["search_boxes"], pair["search_boxes"][0])
    after, before = np.asarray(out["search_images"])[::2], pair["search_images"][0, ::2]
    hidden = (after == 7).all(-1)
    np.testing.assert_array_equal(after[~hidden], before[~hidden])
    share = hidden[:, 30:43, 20:31].mean((1, 2))
    assert 8 < (share > 0).sum() < 26 and share.max() <= 0.85
    assert not hidden[:, :20].any() and not hidden[:, 55:].any()


def test_a_pair_does_not_depend_on_its_neighbours(rng):
    """vmap = loop: one row of a batch against the augmentation of that pair alone."""
    config = replace(siamese_data.PREPARE_SIAMRPN, targets=None, flip_probability=0.5, blur_sizes=(5, 9))
    out = prepare(jax.random.key(5), batch(), config)
    keys = jax.random.split(jax.random.key(5), (3, 4))[0]
    names = ("template_images", "template_boxes", "search_images", "search_boxes")
    alone = jax.jit(partial(siamese_data.augment_pair, config=config))
    for row in range(4):
        found = alone(keys[row], *(jnp.asarray(batch()[name][0, row]) for name in names))
        for name, value in zip(names, found):
            np.testing.assert_allclose(value, out[name][row], atol=1e-3)
