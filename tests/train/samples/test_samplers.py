"""Which frames make a sample: bounds, distribution, and that a sample depends on its number only."""

from dataclasses import replace

import numpy as np
import pytest

from train.datasets import SequenceTable, TrackingDataset
from train.samples import samplers


def dataset(name, *visible):
    """Sequences of the given visible flags; records of all are numbered through."""
    lengths = np.array([len(flags) for flags in visible], np.int64)
    flags = np.concatenate([np.asarray(flags, bool) for flags in visible])
    boxes = np.where(flags[:, None], np.float32([1, 2, 3, 4]), np.float32(np.nan))
    names = tuple(f"{name}{i}" for i in range(len(lengths)))
    return TrackingDataset(name, [], SequenceTable(names, np.cumsum(lengths) - lengths, lengths, boxes, flags))


def draws(mixture, options, count=400, seed=0):
    return [samplers.draw(mixture, options, seed, index) for index in range(count)]


def test_causal_frames_are_visible_ordered_and_within_the_gap():
    data = dataset("a", np.ones(300), np.arange(300) % 3 > 0)
    mixture = samplers.mix([data], [1], samplers.DIMP)
    offsets = {"train": [], "test": []}
    for sample in draws(mixture, samplers.DIMP, 2000):
        base, *others = sample.train_frames
        assert len(others) == 2 and len(sample.test_frames) == 3
        assert data.table.visible[sample.train_frames].all() and data.table.visible[sample.test_frames].all()
        start = data.table.starts[sample.sequence]
        assert start + 2 <= base < start + data.table.lengths[sample.sequence] - 3
        offsets["train"] += list(others - base)
        offsets["test"] += list(sample.test_frames - base)
    assert (min(offsets["train"]), max(offsets["train"])) == (-30, -1)
    assert (min(offsets["test"]), max(offsets["test"])) == (1, 29)
    assert -16.5 < np.mean(offsets["train"]) < -13.5 and 13.5 < np.mean(offsets["test"]) < 16.5


def test_interval_frames_lie_around_the_reference():
    data = dataset("a", np.ones(400))
    mixture = samplers.mix([data], [1], samplers.ATOM)
    found = draws(mixture, samplers.ATOM, 3000)
    bases = np.array([sample.train_frames[0] for sample in found])
    offsets = np.array([sample.test_frames[0] for sample in found]) - bases
    assert all(sample.train_frames.shape == sample.test_frames.shape == (1,) for sample in found)
    assert (bases.min(), bases.max()) == (0, 399) and 190 < bases.mean() < 210
    assert (offsets.min(), offsets.max()) == (-50, 49)
    inner = offsets[(bases >= 50) & (bases <= 350)]
    counts = np.bincount(inner + 50, minlength=100).reshape(10, 10).sum(1)
    assert counts.min() > 0.7 * counts.mean() and counts.max() < 1.3 * counts.mean()


@pytest.mark.parametrize("options", [samplers.DIMP, samplers.ATOM])
def test_frames_of_several_train_frames_come_in_the_right_numbers(options):
    options = replace(options, train_frames=2, test_frames=4)
    mixture = samplers.mix([dataset("a", np.ones(50))], [1], options)
    for sample in draws(mixture, options, 50):
        assert sample.train_frames.shape == (2,) and sample.test_frames.shape == (4,)


def test_the_gap_grows_until_frames_are_found():
    """Visible frames in two blocks 100 frames apart, none within a gap of 1: only growth finds any."""
    flags = np.zeros(130, bool)
    flags[:2] = flags[60:72:2] = flags[-7:] = True
    options = replace(samplers.DIMP, max_gap=1)
    mixture = samplers.mix([dataset("a", flags)], [1], options)
    reach = [sample.test_frames.max() - sample.train_frames[0] for sample in draws(mixture, options, 200)]
    assert max(reach) > 1


def test_usable_videos_are_long_and_visible_enough():
    enough, few = np.arange(20) < 13, np.arange(20) < 12
    data = dataset("a", enough, few, np.ones(19), [True], [False], np.ones(2))
    np.testing.assert_array_equal(samplers.usable_sequences(data.table, samplers.DIMP), [0, 3])
    np.testing.assert_array_equal(samplers.usable_sequences(data.table, samplers.ATOM), [0, 1, 3])
    mixture = samplers.mix([data], [1], samplers.DIMP)
    counts = np.bincount([sample.sequence for sample in draws(mixture, samplers.DIMP)], minlength=6)
    assert counts[[1, 2, 4, 5]].sum() == 0 and abs(counts[0] - counts[3]) < 80


@pytest.mark.parametrize("options", [samplers.DIMP, samplers.ATOM])
def test_an_image_is_repeated(options):
    data = dataset("coco", [False], [True], [False])
    sample = samplers.draw(samplers.mix([data], [1], options), options, 3, 4)
    assert set(sample.train_frames) | set(sample.test_frames) == {1}


def test_data_sets_are_drawn_by_their_probabilities():
    data = [dataset(name, np.ones(30)) for name in "abc"]
    mixture = samplers.mix(data, [0.25, 0, 1], samplers.DIMP)
    counts = np.bincount([sample.dataset for sample in draws(mixture, samplers.DIMP, 2000)], minlength=3)
    assert counts[1] == 0 and 340 < counts[0] < 460


def test_a_sample_depends_on_seed_and_number_only():
    mixture = samplers.mix([dataset("a", np.ones(500))], [1], samplers.DIMP)
    forward = [str(sample) for sample in draws(mixture, samplers.DIMP, 20)]
    backward = [str(samplers.draw(mixture, samplers.DIMP, 0, index)) for index in reversed(range(20))]
    assert forward == backward[::-1]
    assert len(set(forward)) == 20
    assert not set(forward) & {str(sample) for sample in draws(mixture, samplers.DIMP, 20, seed=1)}


def test_what_cannot_be_drawn_from_is_named():
    good, short = dataset("good", np.ones(30)), dataset("short", np.ones(5))
    with pytest.raises(ValueError, match="data set 'short' has no usable sequence among 1") as error:
        samplers.mix([good, short], [1, 1], samplers.DIMP)
    assert "\n" not in str(error.value)
    samplers.mix([good, short], [1, 0], samplers.DIMP)
    broken = good._replace(table=good.table._replace(boxes=good.table.boxes * np.float32(np.nan)))
    with pytest.raises(ValueError, match="data set 'good', record 0: called visible"):
        samplers.mix([broken], [1], samplers.DIMP)
    for probabilities in ([1, 1], [0], [-1], [np.nan]):
        with pytest.raises(ValueError, match="probabilities"):
            samplers.mix([good], probabilities, samplers.DIMP)
    with pytest.raises(ValueError, match="unknown mode 'random'"):
        samplers.mix([good], [1], replace(samplers.DIMP, mode="random"))


def test_the_filter_of_frames_looks_at_boxes():
    """Frames that fail count as not visible, in draws and in what makes a sequence usable."""
    boxes = np.float32([
        [0, 0, 30, 40], [0, 0, 19, 40], [0, 0, 40, 19], [0, 0, 501, 300], [0, 0, 300, 501], [0, 0, 100, 24],
        [0, 0, 24, 100], [0, 0, 100, 25], [0, 0, 25, 100], [0, 0, 20, 20], [0, 0, 500, 500], [0, 0, 30, 30],
    ])  # fmt: skip
    fits = [0, 7, 8, 9, 10]
    data = dataset("a", np.ones(12), np.ones(11))
    flags = data.table.visible.copy()
    flags[11] = False  # invisible, its box would do
    boxes = np.concatenate([boxes, np.tile(boxes[1], (11, 1))])
    data = data._replace(table=data.table._replace(boxes=boxes, visible=flags))
    mixture = samplers.mix([data], [1], samplers.SIAMFC)
    assert mixture.usable[0].tolist() == [0] and data.table.visible.sum() == 22
    drawn = {int(frame) for sample in draws(mixture, samplers.SIAMFC) for frame in np.concatenate(sample[2:])}
    assert drawn == set(fits)
    area = replace(samplers.SIAMFC, frames=samplers.FrameFilter(min_area=1200.0))
    assert np.flatnonzero(samplers.mix([data], [1], area).tables[0].visible).tolist() == [0, 7, 8, 10]
    with pytest.raises(ValueError, match=r"'a' has no usable sequence .* that pass FrameFilter"):
        samplers.mix([data], [1], replace(area, frames=samplers.FrameFilter(min_area=1e6)))


def test_the_filter_of_frames_looks_at_sides_relative_to_the_image():
    frames = samplers.FrameFilter()
    for box, fits in (
        ([0, 0, 100, 50], True),
        ([0, 0, 101, 50], False),
        ([0, 0, 100, 51], False),
        ([0, 0, 2, 1], True),
        ([0, 0, 1.9, 1], False),
        ([0, 0, 2, 0.9], False),
    ):
        assert samplers.fits_image(np.array(box), (100, 200, 3), frames) == fits
        assert samplers.fits_image(np.array(box), (100, 200, 3), None)


def test_streams_of_one_number_are_other_draws():
    mixture = samplers.mix([dataset("a", np.ones(4000))], [1], samplers.SIAMRPN)
    plain = [samplers.draw(mixture, samplers.SIAMRPN, 0, index) for index in range(20)]
    for stream in ((2, 1), (2, 2), (3,)):
        other = [samplers.draw(mixture, samplers.SIAMRPN, 0, index, stream=stream) for index in range(20)]
        assert sum(int(a.train_frames[0]) == int(b.train_frames[0]) for a, b in zip(plain, other)) < 3
        again = samplers.draw(mixture, samplers.SIAMRPN, 0, 5, stream=stream)
        assert again.train_frames == other[5].train_frames


def test_pairs_reach_as_far_as_the_gap_says():
    """Of a video of two frames, too."""
    short = samplers.mix([dataset("a", [1, 1])], [1], samplers.SIAMRPN)
    assert {tuple(np.concatenate(sample[2:])) for sample in draws(short, samplers.SIAMRPN, 60)} == {
        (0, 0), (0, 1), (1, 0), (1, 1)
    }  # fmt: skip
    long = [dataset("a", np.ones(1000))]
    for options, reach in ((samplers.SIAMRPN, (-100, 99)), (replace(samplers.SIAMFC, frames=None), (-99, 98))):
        found = draws(samplers.mix(long, [1], options), options, 4000)
        gaps = np.array([sample.test_frames[0] - sample.train_frames[0] for sample in found])
        assert (gaps.min(), gaps.max()) == reach
