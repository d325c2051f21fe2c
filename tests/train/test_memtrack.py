"""`train.memtrack`: clips, the gradient through their steps, what a frame costs in memory, the whole command."""

import json
import textwrap
from dataclasses import replace
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import trackers
from ops.score_maps import overlap_label
from tests.helpers.differences import assert_gradient
from tests.helpers.drawn_targets import dataset, seen_box
from tests.helpers.held_out import write_sequences
from tests.helpers.narrow_memtrack import NARROW, narrow, start  # noqa: F401, a fixture
from trackers import rules
from trackers.nets import siamese
from trackers.rules import SettingError, validate
from trackers.weights import files
from train import command as train_command
from train import loop, losses, memtrack, release
from train.benchmark import clip as clip_benchmark
from train.configs import memtrack_smoke
from train.samples import clips as clip_data
from train.samples import loader, samplers
from train.samples.augment import ColorConfig, OcclusionConfig
from train.samples.pairs import PairCropConfig

TEMPLATE, SEARCH = 103, 119  # pixels of a side of the crops in `example`: 3 and 5 cells


@pytest.fixture(autouse=True)
def no_compilation_cache(monkeypatch):
    monkeypatch.setattr(train_command, "prepare_process", lambda: None)


def example(steps: int, clips: int) -> dict[str, np.ndarray]:
    """Clips of bright squares on noise, as `clip_data.prepare` gives them."""
    rng = np.random.default_rng(0)
    batch = {"keys": jax.random.split(jax.random.key(1), clips)}
    for name, side in (("template", TEMPLATE), ("search", SEARCH)):
        images = rng.uniform(0, 120, (steps, clips, side, side, 3))
        x, y = (side - 1) // 2 - 7, (side - 1) // 2 - 6
        images[:, :, y : y + 12, x : x + 14] += 100
        box = np.array([x, y, 56.0, 48.0])  # larger than it is seen: a label has more than one cell then
        batch |= {f"{name}_images": images, f"{name}_boxes": np.broadcast_to(box, (steps, clips, 4))}
    return batch


def cast(tree, dtype):
    return jax.tree.map(lambda x: jnp.asarray(x, dtype) if jnp.issubdtype(x.dtype, jnp.floating) else x, tree)


@pytest.mark.full
def test_the_gradient_through_a_clip_of_sixteen_frames_against_finite_differences(narrow, x64):  # noqa: F811
    """Float64, along a random direction in each part, with dropout and in chunks of four frames."""
    params, batch = cast(start(), jnp.float64), cast(example(16, 1), jnp.float64)
    config = memtrack.LossConfig(chunk=4)
    learned = loop.trained(params, loop.OptimizerConfig(groups=((".", 1.0),)))

    def value(learned):
        return memtrack.loss(loop.with_trained(params, learned), batch, config)[0]

    assert_gradient(value, learned)


def test_the_loss_is_that_of_tracking_step_by_step(narrow):  # noqa: F811
    """With stored statistics of the backbone, however long a chunk is: the loop over frames that the tracker takes."""
    params, batch = start(), cast(example(4, 2), jnp.float32)
    config = memtrack.LossConfig(chunk=4, backbone_statistics="stored", dropout=0.0, l2=0.0)
    total, (after, parts) = jax.jit(partial(memtrack.loss, config=config))(params, batch)

    network, memory = siamese.make("memtrack"), partial(NARROW["memory"].apply, params["memory"])

    @jax.jit
    def by_hand(params, batch):
        responses, factors = [], []
        first, state = None, None
        for t in range(4):
            template = network.embed(params, batch["template_images"][t])
            search = network.features(params, batch["search_images"][t]).search
            if state is None:
                first, state = template, memory(template, method="start")
            state, recall = memory(state, first, template, search, method="step")
            responses.append((recall.template, search))
            factors.append(state.controls.factors)
        templates, searches = (jnp.stack(leaves) for leaves in zip(*responses))
        head = partial(NARROW["head"].apply, params["head"], method="correlate", train=True, mutable=["batch_stats"])
        return head(templates, searches)[0], jnp.stack(factors)

    responses, factors = by_hand(params, batch)
    labels = np.broadcast_to(overlap_label(jnp.array([48.0, 56.0]), 3, 8, 0.7), responses.shape)
    each = [losses.balanced_logistic(*pair) for row in zip(responses, labels) for pair in zip(*row)]
    np.testing.assert_allclose(total, np.mean(each), rtol=1e-5)
    np.testing.assert_allclose(parts["write_unused"], factors[..., 2].mean(), rtol=1e-5)
    jax.tree.map(np.testing.assert_array_equal, after["backbone"], params["backbone"])
    assert not np.array_equal(after["head"]["batch_stats"]["norm"]["mean"], [0.0])


@pytest.mark.full
def test_a_fixed_batch_can_be_learned(narrow):  # noqa: F811
    """The loss falls, every parameter moves, and so do the running statistics."""
    optimizer = loop.OptimizerConfig(groups=((".", 1e-2),), clip=20.0)
    config = memtrack.LossConfig(chunk=2)
    step = jax.jit(loop.make_step(partial(memtrack.loss, config=config), lambda key, batch: batch, optimizer, 0))
    before, batch = start(), cast(example(4, 2), jnp.float32)
    state, values = loop.init_state(before, optimizer), []
    for _ in range(10):
        state, metrics = step(state, batch)
        assert bool(metrics["finite"])
        values.append(float(metrics["loss"]))
    assert values[-1] < 0.8 * values[0]
    assert metrics["target_response"] > metrics["background_response"]
    shares = [metrics[name] for name in ("write_nothing", "write_read", "write_unused")]
    np.testing.assert_allclose(sum(shares), 1, rtol=1e-5)
    moved = jax.tree.map(lambda a, b: not np.array_equal(a, b), jax.device_get(state.params), before)
    assert all(jax.tree.leaves(moved))


@pytest.mark.full
def test_memory_of_training_grows_by_the_stored_state_a_frame(narrow):  # noqa: F811
    """What one more frame costs is what the scan keeps of it: far less than a frame's activations."""
    result = clip_benchmark.run(
        clip_benchmark.ClipOptions(lengths=(2, 8), template_size=TEMPLATE, search_size=SEARCH, clips=2)
    )
    assert 0.9 < result["states_per_frame"] < 1.6
    first = result["rows"][0]
    assert 20 * result["bytes_per_frame"] < first["temporary_bytes"]
    assert "states" in clip_benchmark.table(result)


def test_labels_are_overlaps_of_the_box_with_itself():
    label = np.asarray(overlap_label(jnp.array([64.0, 64.0]), 5, 8, 0.7))
    np.testing.assert_array_equal(label, [[0] * 5, [0, 0, 1, 0, 0], [0, 1, 1, 1, 0], [0, 0, 1, 0, 0], [0] * 5])
    wide = np.asarray(overlap_label(jnp.array([16.0, 200.0]), 5, 8, 0.7))
    np.testing.assert_array_equal(wide, np.outer([0, 0, 1, 0, 0], [1, 1, 1, 1, 1]))


# Clips.


CLIP = samplers.FrameSampling(mode="clip", train_frames=4, test_frames=4, max_gap=9, min_length=5, visibility=0)
SMALL = clip_data.ClipLoaderConfig(
    template=PairCropConfig(size=31, shift=2.0, stretch=0.1),
    search=PairCropConfig(size=63, shift=4.0, stretch=0.05),
    exemplar_size=31,
    sampling=CLIP,
    batch_size=2,
)


def draws(datasets, options, count=60):
    mixture = samplers.mix(datasets, [1] * len(datasets), options)
    return [samplers.draw(mixture, options, 0, index) for index in range(count)]


def test_frames_of_a_clip_follow_each_other():
    clips = draws([dataset(lengths=(40, 60))], CLIP)
    for sample in clips:
        frames = np.append(sample.train_frames, sample.test_frames[-1])
        np.testing.assert_array_equal(sample.test_frames, frames[1:])
        assert (np.diff(frames) > 0).all() and np.ptp(frames) < CLIP.max_gap
        assert 0 <= frames[0] and frames[-1] < 100 and (frames[0] < 40) == (frames[-1] < 40)
    assert len({tuple(sample.train_frames) for sample in clips}) > 50
    consecutive = draws([dataset(lengths=(40, 60))], replace(CLIP, max_gap=5))
    assert all((np.diff(sample.train_frames) == 1).all() for sample in consecutive)


def test_hidden_frames_are_left_out_of_a_clip_and_its_window_grows():
    video = dataset(lengths=(60,))
    visible = np.arange(60) % 12 == 0
    video = video._replace(table=video.table._replace(visible=visible))
    for sample in draws([video], CLIP, 10):
        np.testing.assert_array_equal(np.append(sample.train_frames, sample.test_frames[-1]), np.flatnonzero(visible))
    visible[0] = False  # one frame too few
    with pytest.raises(ValueError, match="no usable sequence among 1: a video needs 5 frames and more than 4 visible"):
        draws([video], CLIP, 1)
    with pytest.raises(ValueError, match="as many test frames"):
        draws([video], replace(CLIP, test_frames=3), 1)


def test_targets_of_a_clip_are_where_their_boxes_say():
    datasets = (dataset(), dataset("image", (1, 1, 1), code=2))
    mixture = samplers.mix(datasets, [1, 1], CLIP)
    clips = [clip_data.load_clip(datasets, mixture, SMALL, index) for index in range(8)]
    for clip in clips:
        for name, side in (("template", 31), ("search", 63)):
            assert clip[f"{name}_images"].shape == (4, side, side, 3) and clip[f"{name}_boxes"].shape == (4, 4)
            for image, box in zip(clip[f"{name}_images"], clip[f"{name}_boxes"]):
                np.testing.assert_allclose(seen_box(image), box, atol=0.6)
        middle = clip["template_boxes"][0, :2] + clip["template_boxes"][0, 2:] / 2
        np.testing.assert_allclose(middle, 15, atol=1e-4)  # the first is not moved
        assert np.abs(clip["template_boxes"][1:, :2] + clip["template_boxes"][1:, 2:] / 2 - 15).max() > 0.2
    assert len({int(clip["search_images"][0, 0, 0, 2]) for clip in clips}) > 2
    again = clip_data.load_clip(datasets, mixture, SMALL, 5)
    jax.tree.map(np.testing.assert_array_equal, again, clips[5])


def test_templates_slip_off_the_target_for_a_while():
    datasets = (dataset(),)
    mixture = samplers.mix(datasets, [1], CLIP)
    slips = clip_data.SlipConfig(probability=0.5, shift=(8.0, 12.0), stretch=0.2)
    still = replace(SMALL, template=PairCropConfig(size=31, shift=0.0, stretch=0.0))
    slipping, patterns = replace(still, slips=slips), set()
    for index in range(40):
        clip = clip_data.load_clip(datasets, mixture, slipping, index)
        boxes = clip["template_boxes"]
        away = np.linalg.norm(boxes[:, :2] + boxes[:, 2:] / 2 - 15, axis=1)
        off = away > 1
        assert not off[0] and np.count_nonzero(np.diff(off)) <= 2
        # 31 at the own scale of the target
        side = np.sqrt(np.prod(boxes[:, 2:] + boxes[:, 2:].sum(1, keepdims=True) / 2, 1))
        np.testing.assert_allclose(side[~off], 31, atol=0.01)
        assert (np.ptp(side[off]) < 0.01 if off.any() else True) and (abs(side / 31 - 1) < 0.26).all()
        assert ((away[off] > 8 / 1.2 - 0.01) & (away[off] < 12 / 0.8 + 0.01)).all()
        patterns.add(tuple(off))
    assert len(patterns) == 7  # never, from step 1, 2 or 3 on for as long as there are steps
    plain = [clip_data.load_clip(datasets, mixture, SMALL, 3) for _ in range(2)]
    jax.tree.map(np.testing.assert_array_equal, *plain)


def test_what_the_device_adds():
    """Mirrored are all crops of a clip or none, colors are each crop's own, and nothing hides the first template."""
    datasets = (dataset(),)
    batch = next(loader.batches(clip_data.load_clip, datasets, [1], SMALL, 1))
    arrays = {name: value for name, value in batch.items() if name != "sample_ids"}
    prepare = jax.jit(clip_data.prepare, static_argnames="config")
    plain = prepare(jax.random.key(0), arrays, config=clip_data.PREPARE_MEMTRACK)
    assert plain["keys"].shape == (2,) and plain["keys"][0] != plain["keys"][1]
    for name, value in arrays.items():
        np.testing.assert_allclose(plain[name], value, atol=1e-4)
    config = clip_data.ClipPrepareConfig(
        flip_probability=0.5, colors=ColorConfig(brightness=(0.5, 1.0)), occlusion=OcclusionConfig(probability=1.0)
    )
    flipped = set()
    for seed in range(6):
        out = prepare(jax.random.key(seed), arrays, config=config)
        mirrored = ~np.isclose(out["search_boxes"][..., 0], arrays["search_boxes"][..., 0], atol=1e-3)
        assert (mirrored == mirrored[:1]).all()
        flipped |= set(mirrored[0].tolist())
        for clip in range(2):
            if not mirrored[0, clip]:
                before, after = (part["template_images"][:, clip].astype(np.float32) for part in (arrays, out))
                factors = after.reshape(4, -1).max(1) / before.reshape(4, -1).max(1)
                np.testing.assert_allclose(after[0], before[0] * factors[0], rtol=1e-4, atol=1e-3)
                assert not np.allclose(after[1], before[1] * factors[1], rtol=1e-3, atol=1)
                assert np.ptp(factors) > 0.01
    assert flipped == {False, True}


# The command.


def mini(folder: Path) -> Path:
    """The smoke setting with fewer clips, frames, samples and pixels."""
    path = folder / "mini_memtrack.py"
    path.write_text(
        textwrap.dedent("""
        from dataclasses import replace
        from train.datasets import SYNTHETIC, SyntheticConfig
        from eval.sources.synthetic import ClipConfig
        from train.config import DatasetConfig
        from train.configs import memtrack_smoke

        def get_config():
            config = memtrack_smoke.get_config()
            clips = SyntheticConfig(num_clips=2, clip=ClipConfig(height=96, width=128, num_frames=24))
            search = replace(config.loader.search, size=143, shift=4.0)
            return replace(
                config,
                datasets=(DatasetConfig(SYNTHETIC, synthetic=clips),),
                loss=replace(config.loss, chunk=2),
                loader=replace(config.loader, batch_size=2, search=search),
            )
        """)
    )
    return path


@pytest.mark.full
def test_a_run_is_validated_goes_on_and_is_released(narrow, tmp_path, capsys):  # noqa: F811
    run = tmp_path / "run"

    def command(*more):
        arguments = ["--config", str(mini(tmp_path)), "--out", str(run), "--data_dir", str(tmp_path / "data")]
        arguments += ["--set", "loop.log_every=1", *more]
        return train_command.main("memtrack", memtrack.loss, memtrack.LossConfig, arguments)

    assert command("--set", "loop.steps=2") == 0, capsys.readouterr().err
    held_out = write_sequences(tmp_path / "held_out", (60, 80))
    assert command("--set", f"validation.data_dir={held_out}", "--set", "loop.steps=3") == 0
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [1, 2, 3, 3]
    assert 0 <= lines[-1]["validation/auc"] <= 1
    assert {"loss", "write_nothing", "write_read", "write_unused", "decay", "residual_gate"} <= set(lines[0])

    out = tmp_path / "memtrack.safetensors"
    assert release.main([str(run), "--out", str(out)]) == 0
    assert set(trackers.load_params("memtrack", out)) == {"backbone", "memory", "head"}
    assert files.read_metadata(out)["info"]["parts"] == ["backbone", "head", "memory"]


@pytest.mark.parametrize(
    "wrong",
    [
        "loss.chunk=3: must be a divisor of loader.sampling.train_frames=4",
        "loader.sampling.mode=causal: must be",
        "loss.dropout=1.0: must be in [0, 1)",
        "loss.overlap=1.0: must be in [0, 1)",
        "loader.search.size=192: must be 127 and a positive multiple of 8 more",
        "loader.search.interpolations=('none',): must be one of nearest, linear",
        "loss.model=siamfc: must be a model with a MemoryController",
    ],
)
def test_settings_out_of_range(wrong):
    assignment, _, message = wrong.partition(": ")
    config = rules.override(memtrack_smoke.get_config(), [assignment])
    with pytest.raises(SettingError, match=r"^[^\n]*$") as caught:
        validate(config)
    assert message in str(caught.value)
