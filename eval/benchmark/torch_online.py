"""ATOM and DiMP in PyTorch, with our parameters and numbers: for `eval.benchmark --torch`.

The first frame and the stages of the others compute what `trackers.atom` and `trackers.dimp` do, the way a tracker in
PyTorch is written: geometry and choices on the host, the crops of frame 1 as one batch, slopes by autograd where the
reference implementations take them so (boxes, Gauss-Newton) and written out where they write them out (DiMP's
optimizer), and what a frame does not need is skipped. Only two things are done though nothing may be found: the box is
refined, and its scale is measured, since they are in the time of every frame that shows the target. Ours alone asks
whether a frame has contrast. Randomness is PyTorch's, so proposals and samples differ.
"""

import copy
import math
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import numpy as np

from eval.benchmark import torch_layers, torch_operators
from eval.benchmark.torch_crops import Pair, augmented, window, with_dropout
from eval.benchmark.torch_layers import LAYOUTS, Tensor, conv
from eval.benchmark.torch_nets import Taps, backbone, basic_block, initial_filter, iou_features, modulation, predict_iou
from eval.benchmark.torch_solvers import conjugate_gradient, gauss_newton, optimize
from ops.score_maps import fourier_matrix
from trackers import atom, dimp
from trackers.base import FOUND, HARD_NEGATIVE, LOST, UNCERTAIN
from trackers.nets import models
from trackers.nets.dimp_classifier import FILTER_SIZE, STRIDE
from trackers.nets.resnet import TAP_STRIDES
from trackers.parts import first_frame, scale_filter
from trackers.parts.localization import LEAST_SCORE, LocalizationConfig
from trackers.parts.online import OnlineConfig
from trackers.parts.scale_filter import ScaleFilterConfig
from trackers.parts.search_region import INSIDE_RATIO, RegionConfig

STAGES = ("crop", "features", "localize", "refine", "update, no step", "update, scheduled steps")
FIRST_FRAME = "first frame"
CALLS = (FIRST_FRAME, "frame", *STAGES)  # what `timed` times, named as the rows of `eval.benchmark`


class Crop(NamedTuple):
    """A window of the frame."""

    image: Tensor  # [1, 3, size, size] RGB 0..255
    center: Pair  # image pixels
    scale: float  # image pixels per crop pixel


class Features(NamedTuple):
    """Of crops."""

    classification: Tensor  # [N, C, n, n]
    taps: Taps


class Location(NamedTuple):
    """Where the classifier sees the target."""

    center: Pair  # image pixels
    score: float
    verdict: int


@dataclass
class Memory:
    """Samples in fixed slots; written in place."""

    samples: dict[str, Tensor]  # [slots, ...]
    weights: Tensor  # [slots]
    count: int
    last_slot: int = -1

    def filled(self, name: str) -> Tensor:
        return self.samples[name][: self.count]


@dataclass
class Scales:
    """The filter over scales."""

    filter: Tensor  # [D]
    memory: Memory  # of {"rows": [slots, scales, D]}


@dataclass
class State:
    """One target; stages change it in place."""

    center: Pair  # image pixels
    size: Pair
    filter: Tensor  # [1, C, k, k]
    memory: Memory
    projection: Tensor | None = None  # [D, C, 1, 1]
    modulation: tuple[Tensor, ...] = ()  # [inner] twice
    scales: Scales | None = None
    frame_number: int = 1
    lost_frames: int = 0


class Stages(NamedTuple):
    """As `trackers.parts.online.Stages`; images are `[H, W, 3]` uint8 without a canvas."""

    init: Callable[[Tensor, Pair, Pair], State]  # image, center and size of the target
    crop: Callable[[State, Tensor], Crop]
    features: Callable[[Tensor], Features]
    localize: Callable[[State, Tensor, Crop, Features], Location]
    refine: Callable[[State, Tensor, Crop, Features, Location], tuple[Pair, Pair]]  # center and size
    update: Callable[[State, Crop, Features, Location, tuple[Pair, Pair]], None]


def misfit(config: Any) -> str | None:
    """Why a tracker with this Config has no counterpart here; None for one that has."""
    if not isinstance(config, atom.Config | dimp.Config):
        return "only the Siamese trackers, ATOM and DiMP have their networks in PyTorch here"
    if isinstance(config, atom.Config) and (config.backbone == "filter_bank" or len(config.scale_factors) > 1):
        return "filter banks and searches over several crops are not in PyTorch here"
    if config.localization.window_output or config.region.rounding != "continuous":
        return "windowed scores and rounded crops are not in PyTorch here"
    return None


def timed(
    config: Any, model: str, params: Any, first: np.ndarray, second: np.ndarray, center: Any, size: Any
) -> AbstractContextManager[dict[str, Callable[[], float]]]:
    """A function for each of `CALLS` and layouts ("frame, channels first") that does it in another process: seconds.

    config: without a `misfit`. first, second: frames `[H, W, 3]` uint8. center, size: of the target in the first.
    """
    names = [f"{name}, {layout}" for name in CALLS for layout in LAYOUTS]
    arrays = jax.tree.map(np.asarray, (params, first, second, center, size))
    return torch_layers.timed(_calls, names, config, model, *arrays)


def _calls(config, model, params, first, second, center, size) -> dict[str, Callable[[], Any]]:
    import torch

    torch.manual_seed(0)
    first, second = torch.from_numpy(first.copy()), torch.from_numpy(second.copy())
    box = center.astype(float), size.astype(float)
    calls = {}
    for layout in LAYOUTS:
        stages = make(config, model, params, layout)
        start = stages.init(first, *box)
        calls |= {f"{name}, {layout}": call for name, call in _stage_calls(stages, config, start, second).items()}
        calls[f"{FIRST_FRAME}, {layout}"] = lambda stages=stages: stages.init(first, *box)
        calls[f"frame, {layout}"] = lambda stages=stages, state=start: track(stages, state, second)
    return calls


def _stage_calls(stages: Stages, config: Any, start: State, image: Tensor) -> dict[str, Callable[[], Any]]:
    """Each stage alone, fed with what the stages before it return; an update always at the same frame number."""
    state = copy.deepcopy(start)
    region = stages.crop(state, image)
    features = stages.features(region.image)
    location = stages.localize(state, image, region, features)
    box = stages.refine(state, image, region, features, location)
    seen = location._replace(verdict=FOUND)

    def update(number: int) -> Callable[[], None]:
        own = copy.deepcopy(start)

        def call():
            own.frame_number = number
            stages.update(own, region, features, seen, box)

        return call

    calls = (
        lambda: stages.crop(state, image),
        lambda: stages.features(region.image),
        lambda: stages.localize(state, image, region, features),
        lambda: stages.refine(state, image, region, features, location),
        update(1),
        update(config.online.train_skipping),
    )
    return dict(zip(STAGES, calls, strict=True))


def track(stages: Stages, state: State, image: Tensor) -> tuple[Pair, Pair]:
    """One frame `[H, W, 3]` uint8; the center and the size of the target."""
    region = stages.crop(state, image)
    features = stages.features(region.image)
    location = stages.localize(state, image, region, features)
    box = stages.refine(state, image, region, features, location)
    stages.update(state, region, features, location, box)
    return box


def make(config: Any, model: str, params: Any, layout: str) -> Stages:
    """The stages of a tracker in one of `LAYOUTS`; config: without a `misfit`."""
    tensors = {part: torch_layers.tensors(variables, layout) for part, variables in params.items()}
    stages = (_atom if isinstance(config, atom.Config) else _dimp)(config, models.networks(model), tensors, layout)
    return Stages(*(_without_gradients(stage) for stage in stages))


def _without_gradients(stage: Callable) -> Callable:
    import torch

    return torch.no_grad()(stage)


def _atom(config: atom.Config, parts: dict[str, Any], tensors: dict[str, Any], layout: str) -> Stages:
    import torch
    from torch.nn.functional import conv2d

    side = config.region.image_size
    cells = side // TAP_STRIDES[config.classifier_tap]
    sigma = config.output_sigma_factor * cells / config.region.search_area_scale
    fourier = torch.from_numpy(fourier_matrix(cells, config.kernel_size, side).astype(np.float32))
    regularization = torch.tensor(config.filter_reg), torch.tensor(config.mlu_alpha)
    initial = first_frame.sample_count(config.augmentation)

    def label(offset: Pair) -> Tensor:
        middle = cells * offset + 0.5 * ((config.kernel_size + 1) % 2)
        rows, columns = (np.exp(-(((np.arange(cells) - (cells - 1) / 2 - one) / sigma) ** 2) / 2) for one in middle)
        return torch.from_numpy(np.outer(rows, columns).astype(np.float32))

    def features(images):
        taps = backbone(parts["backbone"], tensors["backbone"], torch_layers.laid_out(images, layout))
        x = taps[config.classifier_tap]
        return Features(x / ((x**2).mean((1, 2, 3), keepdim=True) + 1e-10).sqrt(), taps)

    def init(image, center, size):
        scale = _scale(size, config.region)
        images, shifts = augmented(image, center, scale, config.region, config.augmentation)
        found = features(images)
        samples, origin = with_dropout(found.classification, config.augmentation)
        labels = torch.stack([label(shift / side) for shift in shifts[origin]])
        projection, filter = learn_first(*start_values(samples.shape[1], config), samples, labels, config)
        kept = {"features": conv2d(samples, projection), "labels": labels}
        state = State(center, size, filter, remember(kept, config.online.memory_size), projection)
        if config.use_iou_net:
            state.modulation = modulation(tensors["iou_net"], found.taps, _to_crop(center, size, center, scale, side))
        state.scales = start_scales(found.taps, side / 2 - 0.5 + np.zeros(2), size / scale, side, config.scale_filter)
        return state

    def crop(state, image):
        return search_crop(state, image, config.region)

    def localize(state, image, region, found):
        scores = _same(conv2d(found.classification, state.projection), state.filter)[0]
        fine = (fourier @ scores @ fourier.T).numpy()
        seen = state.lost_frames == 0
        moved, score, verdict = locate(fine, np.zeros(2), state.size / region.scale, config.localization, seen)
        return Location(_in_frame(region.center + moved * region.scale, state.size, image), score, verdict)

    def refine(state, image, region, found, location):
        if config.use_iou_net:
            return refine_box(tensors["iou_net"], state, found.taps, region, location, config.refinement)
        if config.scale_filter is None:
            return location.center, state.size
        return _kept(state, location, (location.center, followed(state, image, region, found, location, config)))

    def update(state, region, found, location, box):
        sample = {
            "features": conv2d(found.classification, state.projection)[0],
            "labels": label((box[0] - region.center) / (region.scale * side)),
        }
        steps = config.cg_steps, config.hard_negative_cg_steps
        _, count = learn(state, sample, location, box, config.online, steps, initial)
        if count:  # all slots, as in pytracking; the schedule holds in every frame
            memory = state.memory
            residuals = torch_operators.atom_residuals(
                memory.samples["features"], memory.samples["labels"], memory.weights, *regularization
            )
            (state.filter,) = gauss_newton(residuals, (state.filter,), count, polak_ribiere=True)
        learn_scales(state, region, found, location, box, config.scale_filter)

    return Stages(init, crop, features, localize, refine, update)


def _dimp(config: dimp.Config, parts: dict[str, Any], tensors: dict[str, Any], layout: str) -> Stages:
    import torch

    side = config.region.image_size
    variables, optimizer = tensors["classifier"], tensors["classifier"]["params"]["optimizer"]
    blocks = parts["classifier"].blocks
    initial = first_frame.sample_count(config.augmentation)

    def features(images):
        taps = backbone(parts["backbone"], tensors["backbone"], torch_layers.laid_out(images, layout))
        x = taps["layer3"]
        for block in range(blocks):
            x = basic_block(x, variables, f"layer_{block}")
        x = conv(x, variables, f"layer_{blocks}", padding=1)
        energy = (x**2).sum((1, 2, 3), keepdim=True)
        return Features(x * (x[0].numel() / (energy + 1e-5)).sqrt() / (x.shape[1] ** 0.5 * FILTER_SIZE), taps)

    def init(image, center, size):
        scale = _scale(size, config.region)
        images, shifts = augmented(image, center, scale, config.region, config.augmentation)
        found = features(images)
        samples, origin = with_dropout(found.classification, config.augmentation)
        boxes = _centered_box(center, size, center, scale, side)[None].repeat(len(samples), 1)
        boxes[:, :2] += torch.from_numpy(shifts[origin][:, ::-1].copy())
        filter = initial_filter(variables, samples, boxes)
        uniform = torch.full((len(samples),), 1 / len(samples))
        filter = optimize(optimizer, filter, samples, boxes, uniform, config.init_steps)
        memory = remember({"features": samples, "boxes": boxes}, config.online.memory_size)
        state = State(center, size, filter, memory)
        if config.use_iou_net:
            state.modulation = modulation(tensors["iou_net"], found.taps, _to_crop(center, size, center, scale, side))
        state.scales = start_scales(found.taps, side / 2 - 0.5 + np.zeros(2), size / scale, side, config.scale_filter)
        return state

    def crop(state, image):
        return search_crop(state, image, config.region)

    def localize(state, image, region, found):
        scores = torch_operators.correlation(found.classification, state.filter)[0].numpy()
        cell = STRIDE * region.scale
        before = (state.center - region.center) / cell
        seen = state.lost_frames == 0
        moved, score, verdict = locate(scores, before, state.size / cell, config.localization, seen)
        if not config.use_iou_net:
            moved = between_cells(scores, moved)
        return Location(_in_frame(region.center + moved * cell, state.size, image), score, verdict)

    def refine(state, image, region, found, location):
        if config.use_iou_net:
            return refine_box(tensors["iou_net"], state, found.taps, region, location, config.refinement)
        if config.scale_filter is None:
            return _kept(state, location, (location.center, state.size))
        return _kept(state, location, (location.center, followed(state, image, region, found, location, config)))

    def update(state, region, found, location, box):
        target = _centered_box(*box, region.center, region.scale, side)
        steps = config.update_steps, config.hard_negative_steps
        sample = {"features": found.classification[0], "boxes": target}
        written, count = learn(state, sample, location, box, config.online, steps, initial)
        if written and count:
            memory = state.memory
            weights = memory.weights[: memory.count]
            state.filter = optimize(
                optimizer, state.filter, memory.filled("features"), memory.filled("boxes"), weights, count
            )
        learn_scales(state, region, found, location, box, config.scale_filter)

    return Stages(init, crop, features, localize, refine, update)


def search_crop(state: State, image: Tensor, region: RegionConfig) -> Crop:
    """The search region of a frame."""
    scale = _scale(state.size, region)
    walk = _walk(region.redetection_rings)
    offset = np.zeros(2)
    if len(walk) and state.lost_frames > 0 and state.lost_frames % 2 == 0:
        offset = walk[(state.lost_frames // 2 - 1) % len(walk)]
    center = _in_frame(state.center + offset * scale * region.image_size, state.size, image)
    return Crop(window(image, center, scale, region.image_size), center, scale)


def _walk(rings: int) -> list[Pair]:
    """As `trackers.parts.search_region.redetection_offset` goes."""
    grid = [(y, x) for y in range(-rings, rings + 1) for x in range(-rings, rings + 1) if (y, x) != (0, 0)]
    return [np.array(cell) / 2 for cell in sorted(grid, key=lambda cell: (max(map(abs, cell)), np.arctan2(*cell)))]


def _scale(size: Pair, region: RegionConfig) -> float:
    return region.search_area_scale * math.sqrt(size.prod()) / region.image_size


def _in_frame(center: Pair, size: Pair, image: Tensor) -> Pair:
    margin = (0.5 - INSIDE_RATIO) * size
    return np.clip(center, -margin, np.array(image.shape[:2]) + margin)


def locate(
    scores: np.ndarray, previous: Pair, target_size: Pair, config: LocalizationConfig, seen: bool = True
) -> tuple[Pair, float, int]:
    """`trackers.parts.localization.locate` without a window: displacement, score, verdict."""
    size = len(scores)
    first = np.array(np.unravel_index(scores.argmax(), scores.shape))
    score, rest = float(scores[tuple(first)]), scores.copy()
    extent = config.neighborhood_scale * target_size
    low = np.maximum(np.round(first - extent / 2), 0).astype(int)
    high = np.maximum(np.round(first + extent / 2 + 1), 0).astype(int)
    rest[low[0] : high[0], low[1] : high[1]] = 0
    second = np.array(np.unravel_index(rest.argmax(), rest.shape))
    second_score = float(rest[tuple(second)])
    first, second = first - size // 2, second - size // 2
    distance = np.linalg.norm(first - previous) / math.sqrt(target_size.prod())
    near = config.near_share + (1 - config.near_share) * min(distance / config.reach, 1.0)
    if not score >= (near if seen else 1.0) * config.not_found_threshold:
        return first.astype(float), score, LOST
    if second_score > config.distractor_threshold * score:
        far = [np.linalg.norm(peak - previous) > config.displacement_scale * size / 2 for peak in (first, second)]
        chosen = second if far[0] and not far[1] else first
        sure = far[0] != far[1] and score >= config.not_found_threshold
        return chosen.astype(float), score, HARD_NEGATIVE if sure else UNCERTAIN
    if score < config.not_found_threshold:
        return first.astype(float), score, UNCERTAIN
    hard = second_score > config.hard_negative_threshold * score and second_score > config.not_found_threshold
    return first.astype(float), score, HARD_NEGATIVE if hard else FOUND


def between_cells(scores: np.ndarray, place: Pair) -> Pair:
    """`trackers.parts.localization.between_cells`."""
    size = len(scores)
    row, column = (int(one) for one in place + size // 2)
    if not (0 < row < size - 1 and 0 < column < size - 1):
        return place
    around = np.log(np.maximum(scores[row - 1 : row + 2, column - 1 : column + 2], LEAST_SCORE))
    return place + np.array([_vertex(*around[:, 1]), _vertex(*around[1])])


def _vertex(before: float, at: float, after: float) -> float:
    """`ops.score_maps.vertex`."""
    curvature = before - 2 * at + after
    return float(np.clip(0.5 * (before - after) / curvature, -0.5, 0.5)) if curvature < 0 else 0.0


def _kept(state: State, location: Location, box: tuple[Pair, Pair]) -> tuple[Pair, Pair]:
    return (state.center, state.size) if location.verdict == LOST else box


def _to_crop(center: Pair, size: Pair, crop_center: Pair, scale: float, side: int) -> Tensor:
    """Image box -> x, y, w, h in the crop `[4]`, x = center - w / 2."""
    import torch

    middle, inside = (center - crop_center) / scale + (side - 1) / 2, size / scale
    return torch.from_numpy(np.concatenate([(middle - inside / 2)[::-1], inside[::-1]]).astype(np.float32))


def _centered_box(center: Pair, size: Pair, crop_center: Pair, scale: float, side: int) -> Tensor:
    """The same with DiMP's x = center - (w - 1) / 2."""
    box = _to_crop(center, size, crop_center, scale, side)
    box[:2] += 0.5
    return box


def ascend(predict: Callable[[Tensor], Tensor], boxes: Tensor, config: Any) -> tuple[Tensor, Tensor]:
    """`trackers.parts.box_refinement.ascend`: the boxes `[P, 4]`, and the overlaps before the last step."""
    import torch

    length = config.step_length
    for _ in range(config.steps):
        boxes = boxes.detach().requires_grad_()
        with torch.enable_grad():
            iou = predict(boxes)
            (slope,) = torch.autograd.grad(iou.sum(), boxes)
        boxes = boxes.detach() + length * slope * boxes.detach()[:, [2, 3, 2, 3]]
        length = length * config.step_decay
    return boxes, iou.detach()


def refine_box(
    variables: Any, state: State, taps: Taps, region: Crop, location: Location, config: Any
) -> tuple[Pair, Pair]:
    """`trackers.parts.box_refinement.refine`: center and size, the last ones if the target is LOST."""
    side = region.image.shape[2]
    features = iou_features(variables, taps)
    start = _to_crop(location.center, state.size, region.center, region.scale, side)
    boxes, iou = ascend(
        lambda boxes: predict_iou(variables, state.modulation, features, boxes), proposals(start, config), config
    )
    best = average_best(boxes, iou, config)
    if best is None or location.verdict == LOST:
        return state.center, state.size
    x, y, width, height = best.double().tolist()
    size = np.array([height, width]) * region.scale
    center = (np.array([y + height / 2, x + width / 2]) - (side - 1) / 2) * region.scale + region.center
    return center, size


def proposals(box: Tensor, config: Any) -> Tensor:
    """The box `[4]` and jittered copies `[1 + random_boxes, 4]`."""
    import torch

    jitter = (torch.rand(config.random_boxes, 4) - 0.5) * (box[2] * box[3]).sqrt()
    center = box[:2] + box[2:] / 2 + jitter[:, :2] * config.position_jitter
    size = torch.maximum(box[2:] + jitter[:, 2:] * config.size_jitter, box[2:].min() / 3)
    return torch.cat([box[None], torch.cat([center - size / 2, size], 1)])


def average_best(boxes: Tensor, iou: Tensor, config: Any) -> Tensor | None:
    """The mean `[4]` of the admissible boxes of highest overlap; None without one."""
    boxes = boxes.clone()
    boxes[:, 2:] = boxes[:, 2:].clamp(min=config.min_side)
    ratio = boxes[:, 2] / boxes[:, 3]
    admissible = (ratio < config.max_aspect_ratio) & (ratio > 1 / config.max_aspect_ratio)
    admissible &= iou.isfinite() & boxes.isfinite().all(1)
    if not admissible.any():
        return None
    boxes, iou = boxes[admissible], iou[admissible]
    return boxes[iou.topk(min(config.top_k, len(iou))).indices].mean(0)


def start_values(channels: int, config: atom.Config) -> tuple[Tensor, Tensor]:
    """Random projection `[D, C, 1, 1]` and filter `[1, D, k, k]`, from which frame 1 learns."""
    import torch

    dim, k = config.compressed_dim, config.kernel_size
    return torch.randn(dim, channels, 1, 1) / channels**0.5, torch.randn(1, dim, k, k) / (dim * k * k)


def learn_first(
    projection: Tensor, filter: Tensor, samples: Tensor, labels: Tensor, config: atom.Config
) -> tuple[Tensor, Tensor]:
    """Projection and filter of ATOM from the samples `[N, C, n, n]` of frame 1, learned together."""
    import torch
    from torch.nn.functional import conv2d

    weights = torch.full((len(samples),), 1 / len(samples))
    regularization = torch.tensor(config.filter_reg), torch.tensor(config.mlu_alpha)

    def residuals(projection, filter):
        projected = conv2d(samples, projection)
        errors = torch_operators.atom_residuals(projected, labels, weights, *regularization)(filter)
        return *errors, config.projection_reg**0.5 * projection

    def precondition(residual):
        return residual[0] / config.projection_reg, residual[1] / config.filter_reg

    learned = projection, filter
    for _ in range(config.init_gn_steps):
        learned = gauss_newton(residuals, learned, config.init_cg_steps, precondition=precondition)
    return learned


def _same(features: Tensor, filter: Tensor) -> Tensor:
    return torch_operators.correlation(features, filter)[:, : features.shape[2], : features.shape[3]]


def remember(samples: dict[str, Tensor], slots: int) -> Memory:
    """The memory with the samples of frame 1, `[N, ...]` each."""
    import torch

    count = len(next(iter(samples.values())))
    weights = torch.zeros(slots)
    weights[:count] = 1 / count
    room = {}
    for name, leaf in samples.items():
        room[name] = leaf.new_zeros((slots, *leaf.shape[1:]))
        if leaf.ndim == 4 and leaf.is_contiguous(memory_format=torch.channels_last):
            room[name] = room[name].contiguous(memory_format=torch.channels_last)
        room[name][:count] = leaf
    return Memory(room, weights, count)


def insert(
    memory: Memory, sample: dict[str, Tensor], rate: float, initial: int, least: float | None, *, in_order: bool
) -> None:
    """`ops.sample_memory.insert`; in_order: "next_free"."""
    weights, slots = memory.weights, len(memory.weights)
    protected = 0 if least is None else initial
    slot = protected + int(weights[protected:].argmin())
    slot = memory.count if in_order and memory.count < slots else slot
    memory.count += int(weights[slot] == 0)
    if memory.last_slot < 0:
        weights /= 1 - rate
        weights[slot] = rate
    else:
        weights[slot] = weights[memory.last_slot] / (1 - rate)
    weights /= weights.sum()
    if least is not None and weights[:initial].sum() < least:
        weights /= least + weights[initial:].sum()
        weights[:initial] = least / initial
    memory.last_slot = slot
    for name, leaf in sample.items():
        memory.samples[name][slot] = leaf


def learn(
    state: State,
    sample: dict[str, Tensor],
    location: Location,
    box: tuple[Pair, Pair],
    config: OnlineConfig,
    steps: tuple[int, int],
    initial: int,
) -> tuple[bool, int]:
    """Counts, box and memory after a frame, and what remains to do: whether the sample entered, and solver steps."""
    state.frame_number += 1
    state.center, state.size = box
    state.lost_frames = state.lost_frames + 1 if location.verdict == LOST else 0
    hard = location.verdict == HARD_NEGATIVE
    written = hard or location.verdict == FOUND
    if written:
        rate = config.hard_negative_learning_rate if hard else config.learning_rate
        in_order = config.replacement == "next_free"
        insert(state.memory, sample, rate, initial, config.init_samples_min_weight, in_order=in_order)
    scheduled = (state.frame_number - 1) % config.train_skipping == 0
    return written, steps[1] if hard else steps[0] if scheduled else 0


def describe(taps: Taps, center: Pair, size: Pair, side: int, config: ScaleFilterConfig) -> Tensor:
    """`trackers.parts.scale_filter.describe` of a box in crop pixels: rows `[boxes, D]`, channels first."""
    import torch

    half = size * config.context * np.exp(scale_filter.boxes(config)[0]) / 2
    corners = np.concatenate([(center - half)[:, ::-1], (center + half)[:, ::-1]], 1)
    corners = torch.from_numpy(corners.astype(np.float32))
    parts = []
    for name in config.taps:
        tap = taps[name][:1]
        pooled = torch_operators.prroi_pooling(tap, corners, config.bins, tap.shape[2] / side).flatten(1)
        pooled = pooled - pooled.mean(1, keepdim=True)
        parts.append(pooled / (len(config.taps) * (pooled**2).sum(1, keepdim=True) + 1e-10).sqrt())
    return torch.cat(parts, 1)


def start_scales(taps: Taps, center: Pair, size: Pair, side: int, config: ScaleFilterConfig | None) -> Scales | None:
    """The filter of frame 1 from sample 0, which shows the target at `center` with `size` (crop pixels)."""
    import torch

    if config is None:
        return None
    jitter = (2 * torch.rand(config.initial_samples, 2).numpy() - 1) * config.center_jitter
    rows = torch.stack([describe(taps, center + offset * size, size, side, config) for offset in jitter])
    scales = Scales(torch.zeros(rows.shape[2]), remember({"rows": rows}, config.memory_size))
    _solve_scales(scales, config.init_cg_steps, config)
    return scales


def _solve_scales(scales: Scales, steps: int, config: ScaleFilterConfig) -> None:
    """Ridge regression of the label, `steps` further."""
    import torch

    label = torch.from_numpy(scale_filter.boxes(config)[1])
    rows, weights = scales.memory.filled("rows"), scales.memory.weights[: scales.memory.count, None] / len(label)
    flat, filter = rows.flatten(0, 1), scales.filter

    def normal(direction):
        image = (weights * (rows @ direction[0])).flatten()
        return (flat.T @ image + config.ridge * direction[0],)

    b = flat.T @ (weights * (label - rows @ filter)).flatten() - config.ridge * filter
    scales.filter = filter + conjugate_gradient(normal, (b,), steps)[0]


def followed(state: State, image: Tensor, region: Crop, found: Features, location: Location, config: Any) -> Pair:
    """The size `[2]` (image pixels) that the scale filter sees."""
    side, scales = region.image.shape[2], config.scale_filter
    inside = (location.center - region.center) / region.scale + (side - 1) / 2
    if not location.score > scales.min_score:
        return state.size
    response = (describe(found.taps, inside, state.size / region.scale, side, scales) @ state.scales.filter).numpy()
    growth = math.exp(scales.gain * _toward(response[: scales.scales], scales.scale_step, scales.max_step))
    wanted = state.size * growth
    if scales.follow_aspect:
        change = _toward(response[scales.scales :], scales.scale_step**-2, scales.aspect_max_step)
        now, most = math.log(state.size[1] / state.size[0]), math.log(scales.max_aspect_ratio)
        change = float(np.clip(scales.aspect_gain * change, min(-most - now, 0), max(most - now, 0)))
        wanted = wanted * np.exp([-change / 2, change / 2])
    least = float((np.minimum(config.region.min_side, state.size) / wanted).max())
    most = float((np.maximum(image.shape[:2], state.size) / wanted).min())
    return wanted * np.clip(1, least, most)


def _toward(response: np.ndarray, step: float, limit: float) -> float:
    """`trackers.parts.scale_filter._toward`."""
    best = int(np.clip(response.argmax(), 1, len(response) - 2))
    peak = best + _vertex(*response[best - 1 : best + 2].astype(float))
    return float(np.clip((peak - (len(response) - 1) / 2) * math.log(step), -limit, limit))


def learn_scales(
    state: State,
    region: Crop,
    found: Features,
    location: Location,
    box: tuple[Pair, Pair],
    config: ScaleFilterConfig | None,
) -> None:
    """Every `train_skipping`-th frame, where the target was FOUND with a good score: the box has the right size."""
    if config is None or (state.frame_number - 1) % config.train_skipping:
        return
    if location.verdict == FOUND and location.score > config.min_score:
        side = region.image.shape[2]
        inside = (box[0] - region.center) / region.scale + (side - 1) / 2
        rows = describe(found.taps, inside, box[1] / region.scale, side, config)
        initial, least = config.initial_samples, config.initial_min_weight
        insert(state.scales.memory, {"rows": rows}, config.learning_rate, initial, least, in_order=False)
        _solve_scales(state.scales, config.cg_steps, config)
