"""DiMP: a target filter predicted by a learned, differentiable optimizer, and a target-modulated IoU-Net.

Bhat et al., "Learning Discriminative Model Prediction for Tracking", ICCV 2019 (arXiv:1904.07220). Frame 1
initializes the filter from augmented samples and refines it by steepest descent; later frames add samples to a
memory and refine it further, every twentieth frame or when a distractor is near. Without the IoU-Net, which needs much
video to be exact, the place is the peak of the scores between cells and the size follows a scale filter.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Annotated, NamedTuple

import jax
import jax.numpy as jnp

from ops.boxes import Box
from ops.correlation import correlate
from ops.crop import covered
from ops.sample_memory import SampleMemory
from ops.score_maps import hann_window
from trackers.base import Tracker
from trackers.nets import models, resnet
from trackers.nets.dimp_classifier import STRIDE, DimpClassifier, optimize_filter
from trackers.parts import box_refinement, first_frame, localization, online, search_region, target_estimation
from trackers.parts.box_refinement import RefinementConfig
from trackers.parts.first_frame import ATOM_AUGMENTATION, AugmentationConfig
from trackers.parts.localization import LocalizationConfig
from trackers.parts.online import Location, OnlineConfig, Stages
from trackers.parts.scale_filter import ScaleFilter, ScaleFilterConfig
from trackers.parts.search_region import RegionConfig
from trackers.rules import NOT_NEGATIVE, OF_THE_TRACKER

Array = jax.Array


@dataclass(frozen=True)
class Config:
    """All numbers of DiMP; the defaults are those of pytracking's `dimp18` and `dimp50`."""

    model: Annotated[str, models.with_part(DimpClassifier), OF_THE_TRACKER] = "dimp18"  # of `trackers.nets.models`
    use_iou_net: bool = True
    scale_filter: ScaleFilterConfig | None = None  # in place of the IoU-Net
    region: RegionConfig = RegionConfig()
    augmentation: AugmentationConfig = AugmentationConfig()
    online: OnlineConfig = OnlineConfig(memory_size=50, replacement="next_free", train_skipping=20)
    init_steps: Annotated[int, NOT_NEGATIVE] = 10  # of the optimizer, on frame 1
    update_steps: Annotated[int, NOT_NEGATIVE] = 2  # of a scheduled update
    hard_negative_steps: Annotated[int, NOT_NEGATIVE] = 1
    localization: LocalizationConfig = LocalizationConfig()
    refinement: RefinementConfig = RefinementConfig()

    def misfits(self) -> Iterator[tuple[str, str]]:
        yield from first_frame.misfits(self.region, self.augmentation, self.online)
        if self.use_iou_net and self.scale_filter is not None:
            yield "scale_filter", "None where use_iou_net"


DIMP50 = Config(model="dimp50")
# Ours, for networks trained on small data sets: a filter over scales, and a second look around where it was lost
HEADS = Config(
    use_iou_net=False,
    scale_filter=ScaleFilterConfig(),
    region=RegionConfig(redetection_rings=1),
    localization=LocalizationConfig(near_share=0.5),
)
# For speed a crop of fewer pixels, with less around a target that is nearly as large in it, and 9 crops of frame 1
TINY = replace(
    HEADS,
    model="dimp_tiny",
    scale_filter=ScaleFilterConfig(gain=0.8),
    region=replace(HEADS.region, image_size=192, search_area_scale=4.0),
    augmentation=AugmentationConfig(expanded_size=384, blurs=((2.0, 2.0),), rotations=(15.0, -15.0)),
    init_steps=20,
)
# pytracking's `dimp18_vot18`, `dimp50_vot18`, `dimp50_vot19`
VOT18 = Config(
    region=RegionConfig(image_size=224, search_area_scale=4.0),
    augmentation=replace(ATOM_AUGMENTATION, expanded_size=448),
    online=OnlineConfig(
        memory_size=250,
        replacement="next_free",
        train_skipping=10,
        learning_rate=0.0075,
        init_samples_min_weight=None,
    ),
    init_steps=25,
    update_steps=3,
    hard_negative_steps=3,
    localization=LocalizationConfig(0.0, 100.0, 0.45, 0.7, window_output=True),
)
DIMP50_VOT18 = replace(VOT18, model="dimp50")
DIMP50_VOT19 = replace(
    DIMP50_VOT18,
    region=RegionConfig(image_size=256, search_area_scale=4.5),
    augmentation=AugmentationConfig(
        expanded_size=358,
        shifts=((0.6, 0.6), (-0.6, -0.6)),
        blurs=((2.0, 0.2), (1.0, 3.0)),
        rotations=(-5.0, 10.0, -30.0, 60.0),
        dropout_copies=3,
    ),
    online=replace(VOT18.online, memory_size=100),
    init_steps=15,
    update_steps=2,
    hard_negative_steps=2,
    refinement=RefinementConfig(steps=3),
)


class State(NamedTuple):
    """One target."""

    key: Array  # PRNG key of the proposals
    frame_number: Array  # [] int32, 1 after init
    lost_frames: Array  # [] int32 since the target was last seen
    box: Box  # image pixels
    filter: Array  # [4, 4, C]
    memory: SampleMemory  # of {"features": [M, h, w, C], "boxes": [M, 4] x, y, w, h in the crop}
    modulation: tuple[Array, ...]  # of the IoU-Net, [256] twice; empty without it
    scale_filter: ScaleFilter | tuple[()]  # empty without it


class Features(NamedTuple):
    """Of the search crop."""

    classification: Array  # [1, h, w, C]
    taps: dict[str, Array]  # name -> [1, h, w, c] for the size of the box: of the IoU-Net or the scale filter


def make(config: Config) -> Tracker:
    """The tracker; `params` as of `trackers.nets.models.init_variables("dimp18" | "dimp50")`."""
    return online.compose(make_stages(config))


def make_stages(config: Config) -> Stages:
    """The stages of a frame, closed over the configuration."""
    size = config.region.image_size
    cells = size // STRIDE
    networks = models.networks(config.model)
    backbone, classifier = networks["backbone"], networks["classifier"]
    initial = first_frame.sample_count(config.augmentation)
    wanted = target_estimation.taps(config)

    def features(params, images):
        taps = backbone.apply(params["backbone"], resnet.normalize(images))
        classification = classifier.apply(params["classifier"], taps["layer3"], method="extract")
        return Features(classification, {name: taps[name] for name in wanted})

    def init(params, key, frame, box):
        key_shift, key_dropout, key, key_scale = jax.random.split(key, 4)
        center, scale = first_frame.sample_geometry(box, config.region)
        images, shifts = first_frame.augmented_crops(
            key_shift, frame, center, scale, config.region, config.augmentation
        )
        every = first_frame.one_by_one(lambda images: features(params, images), images)
        samples, origin = first_frame.with_dropout(key_dropout, every.classification, config.augmentation)
        boxes = box_refinement.to_crop(box, center, scale, size, pixel_centers=True)[None]
        boxes = boxes + jnp.pad(shifts[origin][:, ::-1], ((0, 0), (0, 2)))

        filter = classifier.apply(params["classifier"], samples, boxes, method="initial_filter")
        filter = optimize_filter(
            _optimizer(params), filter, samples, boxes, num_steps=config.init_steps, max_steps=config.init_steps
        )
        memory = online.remember({"features": samples, "boxes": boxes}, config.online)
        estimator = target_estimation.start(params, key_scale, every.taps, box, center, scale, config)
        return State(key, jnp.int32(1), jnp.int32(0), box, filter, memory, *estimator)

    def crop(state, frame):
        return search_region.search_crops(state.box, state.lost_frames, frame, jnp.ones(1), config.region)

    def localize(state, frame, region, features):
        scores = correlate(features.classification[0], state.filter)
        windowed = scores * hann_window(cells + 1) if config.localization.window_output else scores
        cell = STRIDE * region.scale[0]  # image pixels
        before = (state.box.center - region.center[0]) / cell
        size_in_cells, seen = state.box.size / cell, state.lost_frames == 0
        peak = localization.locate(windowed, scores, before, size_in_cells, config.localization, seen)
        place = peak.displacement if config.use_iou_net else localization.between_cells(scores, peak.displacement)
        moved = region.center[0] + place * cell
        center = search_region.keep_in_frame(moved, state.box.size, frame.extent)
        reach = covered(region.center[0], cell, cells + 1, cells // 2)  # half a cell beyond the crop
        return Location(center, jnp.ones(()), peak.verdict, peak.score, scores, reach, jnp.int32(0))

    def refine(params, state, frame, region, features, location):
        return target_estimation.refine(params, state, features.taps, frame, region, location, config)

    def update(params, state, region, features, location, box):
        target = box_refinement.to_crop(box, region.center[0], region.scale[0], size, pixel_centers=True)
        sample = {"features": features.classification[0], "boxes": target}

        def optimize(memory, steps, written):
            return optimize_filter(
                _optimizer(params),
                state.filter,
                memory.samples["features"],
                memory.samples["boxes"],
                memory.weights,
                num_steps=jnp.where(written, steps, 0),
                max_steps=max(config.hard_negative_steps, config.update_steps),
            )

        steps = config.update_steps, config.hard_negative_steps
        state = online.learn(state, sample, location, box, optimize, config.online, steps=steps, initial=initial)
        return target_estimation.learn(state, features.taps, region, location, box, config)

    return Stages(init, crop, features, localize, refine, update)


def _optimizer(params):
    return params["classifier"]["params"]["optimizer"]
