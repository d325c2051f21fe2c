"""ATOM: a classifier learned online by Gauss-Newton and conjugate gradient, and a target-modulated IoU-Net.

Danelljan et al., "ATOM: Accurate Tracking by Overlap Maximization", CVPR 2019 (arXiv:1811.07628). Frame 1 learns a
projection and a filter together (Sec. 3.3); every tenth frame learns the filter on. Without the IoU-Net, which needs
training, the size of the target follows a scale filter (`MULTISCALE`) or the crop, of several scales, that scores
best (`MULTISCALE_SEARCH`).
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Annotated, NamedTuple

import jax
import jax.numpy as jnp

from ops.boxes import Box
from ops.correlation import correlate_same
from ops.crop import covered
from ops.least_squares import gauss_newton, safe_sqrt
from ops.sample_memory import SampleMemory
from ops.score_maps import fourier_interpolate, gaussian_label, hann_window, label_center, mlu
from trackers.base import Params, Tracker
from trackers.nets import filter_bank, models, resnet
from trackers.nets.resnet import TAP_STRIDES
from trackers.parts import first_frame, localization, online, search_region, target_estimation
from trackers.parts.box_refinement import RefinementConfig
from trackers.parts.first_frame import ATOM_AUGMENTATION, AugmentationConfig
from trackers.parts.localization import LocalizationConfig
from trackers.parts.online import Location, OnlineConfig, Stages
from trackers.parts.scale_filter import ScaleFilter, ScaleFilterConfig
from trackers.parts.search_region import RegionConfig
from trackers.rules import COUNT, NOT_NEGATIVE, OF_THE_TRACKER, POSITIVE, one_of

Array = jax.Array


@dataclass(frozen=True)
class Config:
    """All numbers of ATOM; the defaults are those of pytracking's `atom/default`."""

    # "resnet16" is a smaller one of our own; "filter_bank" needs no weights
    backbone: Annotated[str, one_of("resnet18", "resnet16", "filter_bank"), OF_THE_TRACKER] = "resnet18"
    use_iou_net: bool = True
    scale_filter: ScaleFilterConfig | None = None  # in place of the IoU-Net
    region: RegionConfig = RegionConfig(min_side=10.0)
    classifier_tap: Annotated[str, one_of(*TAP_STRIDES)] = "layer3"  # of the backbone
    scale_factors: Annotated[tuple[float, ...], POSITIVE] = (1.0,)  # one search crop each
    augmentation: AugmentationConfig = ATOM_AUGMENTATION
    kernel_size: Annotated[int, COUNT] = 4  # of the filter, cells
    compressed_dim: Annotated[int, COUNT] = 64  # channels after the projection
    output_sigma_factor: Annotated[float, POSITIVE] = 0.25  # sigma of the label over sqrt(target area)
    mlu_alpha: Annotated[float, POSITIVE] = 0.05
    filter_reg: Annotated[float, POSITIVE] = 0.1
    projection_reg: Annotated[float, POSITIVE] = 1e-4
    init_gn_steps: Annotated[int, COUNT] = 6  # Gauss-Newton steps of frame 1
    init_cg_steps: Annotated[int, COUNT] = 10  # conjugate gradient steps of each
    cg_steps: Annotated[int, NOT_NEGATIVE] = 5  # of a scheduled update
    hard_negative_cg_steps: Annotated[int, NOT_NEGATIVE] = 5
    online: OnlineConfig = OnlineConfig(memory_size=250, replacement="min_weight", train_skipping=10)
    localization: LocalizationConfig = LocalizationConfig()
    refinement: RefinementConfig = RefinementConfig()

    def misfits(self) -> Iterator[tuple[str, str]]:
        yield from first_frame.misfits(self.region, self.augmentation, self.online)
        if not self.scale_factors:
            yield "scale_factors", "one number or more"
        cells = self.region.image_size // TAP_STRIDES[self.classifier_tap]
        if self.kernel_size > cells:
            yield "kernel_size", f"<= {cells}, the cells of the score map"
        if self.use_iou_net:
            if self.backbone != "resnet18":
                yield "use_iou_net", f"False with backbone {self.backbone}"
            if len(self.scale_factors) > 1:
                yield "scale_factors", "one number where use_iou_net"
            if self.scale_filter is not None:
                yield "scale_filter", "None where use_iou_net"
        if self.backbone == "filter_bank":
            known = {"layer1", "layer2"}
            text = f"one of {', '.join(sorted(known))} with backbone filter_bank"
            if self.classifier_tap not in known:
                yield "classifier_tap", text
            if self.scale_filter and not known.issuperset(self.scale_filter.taps):
                yield "scale_filter.taps", text


# pytracking's `atom/default_vot`
VOT = Config(
    region=RegionConfig(image_size=224, search_area_scale=4.0, min_side=10.0),
    augmentation=replace(ATOM_AUGMENTATION, expanded_size=448),
    online=replace(Config.online, learning_rate=0.0075, init_samples_min_weight=None),
    localization=LocalizationConfig(-1.0, 100.0, 0.3, 0.7, window_output=True),
)
# pytracking's `atom/multiscale_no_iounet`
MULTISCALE_SEARCH = Config(use_iou_net=False, scale_factors=tuple(1.02**k for k in (-2, -1, 0, 1, 2)))
# Ours: one crop, a filter over scales, and a second look around where the target was lost
MULTISCALE = Config(
    use_iou_net=False,
    scale_filter=ScaleFilterConfig(),
    region=RegionConfig(min_side=4.0, redetection_rings=1),
    localization=LocalizationConfig(near_share=0.5),
)
MULTISCALE_SMALL = replace(MULTISCALE, backbone="resnet16")
FILTER_BANK = replace(
    MULTISCALE,
    backbone="filter_bank",
    scale_filter=ScaleFilterConfig(follow_aspect=False),  # its features are too poor for that
    localization=LocalizationConfig(),
    region=replace(MULTISCALE.region, image_size=160),
    classifier_tap="layer2",
    compressed_dim=16,
    augmentation=replace(ATOM_AUGMENTATION, expanded_size=320),
)


class State(NamedTuple):
    """One target."""

    key: Array  # PRNG key of the proposals
    frame_number: Array  # [] int32, 1 after init
    lost_frames: Array  # [] int32 since the target was last seen
    box: Box  # image pixels
    projection: Array  # [C, D]
    filter: Array  # [k, k, D]
    memory: SampleMemory  # of {"features": [M, n, n, D] projected, "labels": [M, n, n]}
    modulation: tuple[Array, ...]  # of the IoU-Net, [256] twice; empty without it
    scale_filter: ScaleFilter | tuple[()]  # empty without it


class Features(NamedTuple):
    """Of the search crops."""

    classification: Array  # [S, n, n, C] with mean square 1
    taps: dict[str, Array]  # [S, h, w, c] for the size of the box: of the IoU-Net or the scale filter


def make(config: Config) -> Tracker:
    """The tracker; `params` as of `trackers.init_params`."""
    return online.compose(make_stages(config))


def make_stages(config: Config) -> Stages:
    """The stages of a frame, closed over the configuration."""
    size = config.region.image_size
    cells = size // TAP_STRIDES[config.classifier_tap]
    sigma = config.output_sigma_factor * cells / config.region.search_area_scale
    factors = jnp.asarray(config.scale_factors, jnp.float32)
    initial = first_frame.sample_count(config.augmentation)
    extract = _extractor(config)

    def label(offset):
        """The label `[n, n]` of a target `offset` [2] from the middle, as a share of the crop's side."""
        return gaussian_label(label_center(offset, cells, config.kernel_size), sigma, cells)

    def init(params, key, frame, box):
        key_shift, key_dropout, key_init, key_scale, key = jax.random.split(key, 5)
        center, scale = first_frame.sample_geometry(box, config.region)
        images, shifts = first_frame.augmented_crops(
            key_shift, frame, box.center, scale, config.region, config.augmentation
        )
        features = first_frame.one_by_one(lambda images: extract(params, images), images)
        samples, origin = first_frame.with_dropout(key_dropout, features.classification, config.augmentation)
        offset = (box.center - center)[None] / (scale * size) + shifts[origin] / size
        labels = jax.vmap(label)(offset)
        projection, filter = _learn_first(key_init, samples, labels, config)

        memory = online.remember({"features": samples @ projection, "labels": labels}, config.online)
        estimator = target_estimation.start(params, key_scale, features.taps, box, center, scale, config)
        return State(key, jnp.int32(1), jnp.int32(0), box, projection, filter, memory, *estimator)

    def crop(state, frame):
        return search_region.search_crops(state.box, state.lost_frames, frame, factors, config.region)

    def features(params, images):
        return extract(params, images)

    def localize(state, frame, region, features):
        scores = correlate_same(features.classification @ state.projection, state.filter)
        fine = jax.vmap(lambda one: fourier_interpolate(one, config.kernel_size, size))(scores)
        if config.localization.window_output:
            fine = fine * jnp.roll(hann_window(size, centered=False), (size // 2, size // 2), (0, 1))[None]
        best = jnp.nanargmax(jnp.max(fine, (1, 2))).astype(jnp.int32)
        fine, scale = fine[best], region.scale[best]
        size_in_crop, seen = state.box.size / scale, state.lost_frames == 0
        peak = localization.locate(fine, fine, jnp.zeros(2), size_in_crop, config.localization, seen)
        moved = region.center[best] + peak.displacement * scale
        center = search_region.keep_in_frame(moved, state.box.size, frame.extent)
        middle = (cells - config.kernel_size % 2) / 2  # an even kernel shifts scores by half a cell
        reach = covered(region.center[best], scale * size / cells, cells, middle)
        return Location(center, factors[best], peak.verdict, peak.score, scores[best], reach, best)

    def refine(params, state, frame, region, features, location):
        return target_estimation.refine(params, state, features.taps, frame, region, location, config)

    def update(params, state, region, features, location, box):
        index = location.crop_index
        offset = (box.center - region.center[index]) / (region.scale[index] * size)
        sample = {
            "features": features.classification[index] @ state.projection,
            "labels": label(offset),
        }

        def optimize(memory, steps, written):
            del written  # the schedule holds in every frame
            return gauss_newton(
                filter_residuals,
                state.filter,
                (memory.samples["features"], memory.samples["labels"], memory.weights, *_regularization(config)),
                num_steps=jnp.minimum(steps, 1),
                max_steps=1,
                cg_steps=steps,
                max_cg_steps=max(config.cg_steps, config.hard_negative_cg_steps),
                method="polak_ribiere",
            )

        steps = config.cg_steps, config.hard_negative_cg_steps
        state = online.learn(state, sample, location, box, optimize, config.online, steps=steps, initial=initial)
        return target_estimation.learn(state, features.taps, region, location, box, config)

    return Stages(init, crop, features, localize, refine, update)


def _extractor(config: Config) -> Callable[[Params, Array], Features]:
    """`(params, images [S, size, size, 3]) -> Features`."""
    row = "atom_multiscale_small" if config.backbone == "resnet16" else "atom_multiscale"  # the latter also for "atom"
    backbone = models.networks(row)["backbone"]

    def extract(params, images):
        if config.backbone == "filter_bank":
            taps = filter_bank.extract(params["backbone"], images)
        else:
            taps = backbone.apply(params["backbone"], resnet.normalize(images))
        x = taps[config.classifier_tap]
        power = jnp.mean(x**2, (1, 2, 3), keepdims=True)
        return Features(x / jnp.sqrt(power + 1e-10), {name: taps[name] for name in target_estimation.taps(config)})

    return extract


def _regularization(config: Config) -> tuple[Array, Array]:
    return jnp.asarray(config.filter_reg, jnp.float32), jnp.asarray(config.mlu_alpha, jnp.float32)


def filter_residuals(filter, features, labels, weights, filter_reg, alpha):
    """Eq. 5 of the paper for fixed projection: residuals whose sum of squares is the loss."""
    return _errors(features, filter, labels, weights, alpha), jnp.sqrt(filter_reg) * filter


def _errors(features: Array, filter: Array, labels: Array, weights: Array, alpha: Array) -> Array:
    """Weighted errors of the scores, `[N, n, n]`."""
    return safe_sqrt(weights)[:, None, None] * (mlu(correlate_same(features, filter), alpha) - labels)


def _learn_first(key: Array, samples: Array, labels: Array, config: Config) -> tuple[Array, Array]:
    """Projection `[C, D]` and filter `[k, k, D]` from the samples `[N, n, n, C]` of frame 1, learned together.

    pytracking's setting file asks for Polak-Ribiere, but its optimizer of frame 1 runs Fletcher-Reeves.
    """
    key_projection, key_filter = jax.random.split(key)
    count, channels = samples.shape[0], samples.shape[-1]
    shape = (config.kernel_size, config.kernel_size, config.compressed_dim)
    start = {
        "projection": jax.random.normal(key_projection, (channels, config.compressed_dim)) / channels**0.5,
        "filter": jax.random.normal(key_filter, shape) / (shape[0] * shape[1] * shape[2]),
    }
    args = (samples, labels, jnp.full(count, 1 / count), jnp.asarray(config.projection_reg), *_regularization(config))

    def residuals(learned, samples, labels, weights, projection_reg, filter_reg, alpha):
        projection, filter = learned["projection"], learned["filter"]
        # The filter that unprojected samples have the same scores with: a quarter of the work of projecting them
        whole = jnp.matmul(filter, projection.T, precision=jax.lax.Precision.HIGHEST)
        errors = _errors(samples, whole, labels, weights, alpha)
        return errors, jnp.sqrt(filter_reg) * filter, jnp.sqrt(projection_reg) * projection

    def precondition(residual, samples, labels, weights, projection_reg, filter_reg, alpha):
        return {"projection": residual["projection"] / projection_reg, "filter": residual["filter"] / filter_reg}

    learned = gauss_newton(
        residuals,
        start,
        args,
        num_steps=config.init_gn_steps,
        cg_steps=config.init_cg_steps,
        preconditioner=precondition,
    )
    return learned["projection"], learned["filter"]
