"""Batches of samples: the same however they are made, errors that name the frame, parts of objects as targets."""

import multiprocessing
from dataclasses import replace

import numpy as np
import pytest

from tests.helpers.noise_frames import assert_same, dataset, encoded, two_datasets
from train.samples import frames as data
from train.samples import loader, samplers

SMALL = replace(data.DIMP, crops=data.CropConfig(size=32), batch_size=4)


def load(config=SMALL, *, num_batches=4, state=None, **process):
    batches = loader.batches(data.load_sample, two_datasets(), [1, 1], config, num_batches, **process)
    if state is not None:
        batches.set_state(state)
    found = list(batches)
    batches.close()
    return found


@pytest.mark.parametrize("broken", [b"no image", b"", encoded(np.zeros((40, 40, 3), np.uint8))[:60]])
def test_a_corrupt_image_is_named(broken):
    datasets = [dataset("image", (1, 1), broken=1, data=broken)]
    batches = loader.batches(data.load_sample, datasets, [1], replace(SMALL, batch_size=8), 1)
    with pytest.raises(loader.FrameError, match=r"data set 'image', record 1 \(sequence 'image1', frame 0\)") as error:
        next(batches)
    assert "\n" not in str(error.value)


def test_batches_are_frames_by_samples():
    batches = load()
    assert [batch["sample_ids"].tolist() for batch in batches] == [list(range(n, n + 4)) for n in (0, 4, 8, 12)]
    assert batches[0]["train_images"].shape == (3, 4, 32, 32, 3) and batches[0]["test_boxes"].shape == (3, 4, 4)
    config = SMALL
    datasets = two_datasets()
    sample = data.load_sample(datasets, samplers.mix(datasets, [1, 1], config.sampling), config, 6)
    np.testing.assert_array_equal(batches[1]["test_images"][:, 2], sample["test_images"])


def test_batches_are_the_same_for_any_number_of_processes():
    whole = load()
    shards = [load(process_index=index, process_count=2) for index in range(2)]
    joined = [
        {name: np.concatenate([part[name] for part in parts], min(1, parts[0][name].ndim - 1)) for name in parts[0]}
        for parts in zip(*shards)
    ]
    assert_same(joined, whole)
    with pytest.raises(ValueError, match="a batch of 4 cannot be divided: process 0 of 3"):
        load(process_count=3)


def test_batches_go_on_where_they_were_interrupted():
    whole = load()
    batches = loader.batches(data.load_sample, two_datasets(), [1, 1], replace(SMALL, threads=2), 4)
    first = [next(batches), next(batches)]
    state = batches.get_state()
    next(batches)
    assert state == {"next_batch": 2}
    assert_same(first + load(state=state), whole)
    batches.set_state({"next_batch": 1})
    assert_same(list(batches), whole[1:])
    assert load(state={"next_batch": 4}) == []


def test_worker_processes_change_nothing():
    config = replace(SMALL, workers=2)
    whole = load()
    batches = loader.batches(data.load_sample, two_datasets(), [1, 1], config, 4)
    first = [next(batches)]
    state = batches.get_state()
    next(batches)
    batches.set_state(state)
    assert not multiprocessing.active_children()
    assert_same([*first, *batches], whole)
    batches.close()


def test_a_corrupt_image_is_named_by_a_worker():
    datasets = [dataset("image", (1,), broken=0)]
    batches = loader.batches(data.load_sample, datasets, [1], replace(SMALL, batch_size=1, workers=1), 1)
    with pytest.raises(loader.FrameError, match=r"data set 'image', record 0") as error:
        next(batches)
    assert "\n" not in str(error.value)
    batches.close()


def test_a_part_lies_in_its_object_and_is_the_same_in_all_frames_of_a_photograph():
    config = loader.PartConfig(probability=0.5, sides=(0.3, 0.7), min_side=8.0)
    box, rng = np.array([10.0, 20.0, 40.0, 30.0]), np.random.default_rng(0)
    parts = np.array([loader.random_part(rng, box, config) for _ in range(400)])
    kept = (parts == box).all(1)
    assert 150 < kept.sum() < 300  # half of them, and those whose part would be too small
    inner = parts[~kept]
    assert (inner[:, :2] >= box[:2]).all() and (inner[:, :2] + inner[:, 2:] <= box[:2] + box[2:] + 1e-9).all()
    sides = inner[:, 2:] / box[2:]
    assert inner[:, 2:].min() >= 8 and 0.3 <= sides.min() < 0.35 and 0.65 < sides.max() <= 0.7
    assert (loader.random_part(rng, box, replace(config, min_side=31.0)) == box).all()

    still = replace(SMALL.crops, train_jitter=data.Jitter(0.0, 0.0), test_jitter=data.Jitter(0.0, 0.0))
    whole = replace(SMALL, crops=still)
    images = two_datasets()[1]
    mixture = samplers.mix([images], [1], whole.sampling)
    always = replace(whole, parts=replace(config, probability=1.0, min_side=1.0))
    for index in range(4):
        plain, part = (data.load_sample([images], mixture, one, index) for one in (whole, always))
        boxes = np.concatenate([part["train_boxes"], part["test_boxes"]])
        np.testing.assert_allclose(boxes, boxes[:1].repeat(6, 0), atol=1e-4)  # no jitter: one place in every crop
        assert np.abs(plain["train_images"].astype(int) - part["train_images"]).max() > 0  # of another window


def test_in_a_video_the_whole_object_is_the_target():
    video = two_datasets()[0]
    mixture = samplers.mix([video], [1], SMALL.sampling)
    parts = replace(SMALL, parts=loader.PartConfig(probability=1.0, min_side=1.0))
    assert_same([data.load_sample([video], mixture, parts, 3)], [data.load_sample([video], mixture, SMALL, 3)])
