"""Range checks of a Config, for the host's edge: inside jit a float may be a tracer, so nothing checks it there."""

import dataclasses
import math
import types
import typing
from collections.abc import Callable
from typing import Any, NamedTuple

from ops.anchors import CENTERS
from ops.sample_memory import REPLACEMENTS
from ops.template_memory import BOUNDS, DIVERSITIES
from trackers import atom, dasiamrpn, dimp, memtrack, siamfc, siamrpn, thor
from trackers.nets import models
from trackers.nets.memory import MemoryController
from trackers.nets.rpn import DepthwiseRPN, UpChannelRPN
from trackers.parts import first_frame
from trackers.parts.box_refinement import RefinementConfig
from trackers.parts.scale_filter import ScaleFilterConfig
from trackers.parts.templates import EXEMPLAR_SIZE

STRIDE = 32  # crop pixels: what the backbones and the centered score maps ask of a crop's side


class Rule(NamedTuple):
    """What a field's numbers or names must be; a tuple keeps the rule if all its elements do."""

    text: str
    holds: Callable[[Any], bool]


ANY = Rule("finite", lambda value: True)
POSITIVE = Rule("> 0", lambda value: value > 0)
NOT_NEGATIVE = Rule(">= 0", lambda value: value >= 0)
COUNT = Rule(">= 1", lambda value: value >= 1)
SHARE = Rule("in (0, 1)", lambda value: 0 < value < 1)
PROBABILITY = Rule("in [0, 1]", lambda value: 0 <= value <= 1)
SIDE = Rule(f"a positive multiple of {STRIDE}", lambda value: value > 0 and value % STRIDE == 0)
REGION = Rule(
    f"{EXEMPLAR_SIZE} and a positive multiple of {siamfc.STRIDE} more",
    lambda value: value > EXEMPLAR_SIZE and (value - EXEMPLAR_SIZE) % siamfc.STRIDE == 0,
)
EVEN = Rule("even and > 0", lambda value: value > 0 and value % 2 == 0)


def one_of(*choices: Any) -> Rule:
    return Rule(f"one of {', '.join(map(str, choices))}", lambda value: value in choices)


RULES = {
    # of the tracker
    "backbone": one_of("resnet18", "filter_bank"),
    "use_iou_net": ANY,
    "image_size": SIDE,
    "classifier_tap": one_of(*atom.STRIDES),
    "search_area_scale": POSITIVE,
    "scale_factors": POSITIVE,
    "border": one_of("replicate", "inside", "inside_major"),
    "kernel_size": COUNT,
    "compressed_dim": COUNT,
    "output_sigma_factor": POSITIVE,
    "mlu_alpha": POSITIVE,
    "filter_reg": POSITIVE,
    "projection_reg": POSITIVE,
    "init_gn_steps": COUNT,
    "init_cg_steps": COUNT,
    "init_steps": NOT_NEGATIVE,
    "cg_steps": NOT_NEGATIVE,
    "hard_negative_cg_steps": NOT_NEGATIVE,
    "update_steps": NOT_NEGATIVE,
    "hard_negative_steps": NOT_NEGATIVE,
    "train_skipping": COUNT,
    "memory_size": COUNT,
    "replacement": one_of(*REPLACEMENTS),
    "learning_rate": SHARE,
    "hard_negative_learning_rate": SHARE,
    "init_samples_min_weight": SHARE,
    "window_output": ANY,
    "redetection_rings": NOT_NEGATIVE,
    "scale_filter_share": PROBABILITY,
    # of AugmentationConfig
    "expanded_size": EVEN,
    "shifts": ANY,
    "flip": ANY,
    "blurs": POSITIVE,
    "rotations": ANY,
    "random_shift": NOT_NEGATIVE,
    "dropout_copies": NOT_NEGATIVE,
    "dropout_rate": Rule("in [0, 1)", lambda value: 0 <= value < 1),
    # of LocalizationConfig
    "not_found_threshold": ANY,
    "distractor_threshold": NOT_NEGATIVE,
    "hard_negative_threshold": NOT_NEGATIVE,
    "displacement_scale": NOT_NEGATIVE,
    "neighborhood_scale": NOT_NEGATIVE,
    # of RefinementConfig
    "steps": COUNT,
    "step_length": NOT_NEGATIVE,
    "step_decay": NOT_NEGATIVE,
    "random_boxes": NOT_NEGATIVE,
    "position_jitter": NOT_NEGATIVE,
    "size_jitter": NOT_NEGATIVE,
    "min_side": POSITIVE,
    "max_aspect_ratio": Rule("> 1", lambda value: value > 1),
    "top_k": COUNT,
    # of ScaleFilterConfig
    "taps": one_of(*atom.STRIDES),
    "bins": COUNT,
    "context": POSITIVE,
    "scales": Rule("odd and >= 3", lambda value: value >= 3 and value % 2 == 1),
    "scale_step": Rule("> 1", lambda value: value > 1),
    "label_sigma": POSITIVE,
    "ridge": POSITIVE,
    "initial_samples": COUNT,
    "center_jitter": NOT_NEGATIVE,
    "initial_min_weight": SHARE,
    "min_score": ANY,
    "gain": NOT_NEGATIVE,
    "max_step": NOT_NEGATIVE,
    # of the Siamese trackers
    "instance_size": REGION,
    "small_instance_size": REGION,
    "small_share": PROBABILITY,
    "base_size": NOT_NEGATIVE,
    "penalty_k": NOT_NEGATIVE,
    "window_influence": PROBABILITY,
    "size_rate": PROBABILITY,
    "scale_rate": PROBABILITY,
    "scale_penalty": POSITIVE,
    "memory": ANY,
    "upsampling": COUNT,
    "centers": one_of(*CENTERS),
    "sizes": REGION,
    "proposals": Rule(">= 2", lambda value: value >= 2),
    "iou_threshold": PROBABILITY,
    "influence": NOT_NEGATIVE,
    "rate": SHARE,
    "enter": PROBABILITY,
    "leave": PROBABILITY,
    "clip_state": ANY,
    "average": one_of(*dasiamrpn.AVERAGES),
    "weight": NOT_NEGATIVE,
    "grid": one_of(*siamfc.GRIDS),
    "scale": one_of(*siamrpn.SCALES),
    # of THOR
    "short_slots": NOT_NEGATIVE,
    "long_slots": COUNT,
    "bound": one_of(*BOUNDS),
    "lower_bound": PROBABILITY,
    "tukey_alpha": PROBABILITY,
    "dilation": COUNT,
    "modulate": ANY,
    "diversity": one_of(*DIVERSITIES),
    "scores": one_of(*thor.SCORES),
}
PYTRACKING = one_of("continuous", "pytracking", "pytracking_torch14")
OF_TYPE = {  # rules of fields that mean something else elsewhere
    atom.Config: {"rounding": PYTRACKING},
    RefinementConfig: {"size_rate": Rule("in (0, 1]", lambda value: 0 < value <= 1)},
    dimp.Config: {"rounding": PYTRACKING, "model": one_of("dimp18", "dimp50", "dimp_tiny")},
    siamfc.Config: {"rounding": one_of("continuous", "siamfc"), "model": one_of("siamfc")},
    memtrack.Config: {"rounding": one_of("continuous", "siamfc"), "model": one_of(*models.having(MemoryController))},
    siamrpn.Config: {
        "rounding": one_of("continuous", "pysot", "dasiamrpn"),
        "model": one_of(*models.having(UpChannelRPN, DepthwiseRPN)),
    },
}


def validate(config: Any) -> None:
    """ValueError, one line with the (dotted) field, its value and what it must be, for the first mistake in a Config.

    Any frozen dataclass: values have the type that is declared, numbers are finite, fields that have a rule keep it.
    For ATOM's and DiMP's own, fields must fit each other, too.
    """
    _check_fields(config, "")
    if isinstance(config, atom.Config | dimp.Config):
        _check_samples(config)
        if config.scale_filter:
            _check_scale_filter(config.scale_filter)
    if isinstance(config, atom.Config):
        _check_networks(config)


def _check_fields(config: Any, prefix: str) -> None:
    hints, rules = typing.get_type_hints(type(config)), RULES | OF_TYPE.get(type(config), {})
    for field in dataclasses.fields(config):
        name, value = prefix + field.name, getattr(config, field.name)
        if not _has_type(value, hints[field.name]):
            raise _error(name, value, f"of type {_type_name(hints[field.name])}")
        if dataclasses.is_dataclass(value):
            _check_fields(value, name + ".")
            continue
        rule = rules.get(field.name, ANY)
        for element in _elements(value):
            finite = not isinstance(element, float) or math.isfinite(element)
            if not finite or not rule.holds(element):
                raise _error(name, value, rule.text if finite else ANY.text)


def _check_samples(config: atom.Config | dimp.Config) -> None:
    expanded, samples = config.augmentation.expanded_size, first_frame.sample_count(config.augmentation)
    if expanded < config.image_size:
        raise _error("augmentation.expanded_size", expanded, f">= image_size = {config.image_size}")
    # Samples that are never replaced leave a slot to the others.
    least = samples if config.init_samples_min_weight is None else samples + 1
    if config.memory_size < least:
        raise _error("memory_size", config.memory_size, f">= {least}: {samples} samples come from frame 1")


def _check_networks(config: atom.Config) -> None:
    if not config.scale_factors:
        raise _error("scale_factors", config.scale_factors, "one number or more")
    cells = config.image_size // atom.STRIDES[config.classifier_tap]
    if config.kernel_size > cells:
        raise _error("kernel_size", config.kernel_size, f"<= {cells}, the cells of the score map")
    if config.use_iou_net:
        if config.backbone != "resnet18":
            raise _error("use_iou_net", True, f"False with backbone {config.backbone}")
        if len(config.scale_factors) > 1:
            raise _error("scale_factors", config.scale_factors, "one number where use_iou_net")
        if config.scale_filter is not None:
            raise ValueError("scale_filter: must be None where use_iou_net")
    if config.backbone == "filter_bank":
        taps = one_of("layer1", "layer2")
        if not taps.holds(config.classifier_tap):
            raise _error("classifier_tap", config.classifier_tap, f"{taps.text} with backbone filter_bank")
        if config.scale_filter and not all(map(taps.holds, config.scale_filter.taps)):
            raise _error("scale_filter.taps", config.scale_filter.taps, f"{taps.text} with backbone filter_bank")


def _check_scale_filter(config: ScaleFilterConfig) -> None:
    if not config.taps:
        raise _error("scale_filter.taps", (), "one name or more")
    if config.memory_size <= config.initial_samples:
        raise _error("scale_filter.memory_size", config.memory_size, f"> initial_samples = {config.initial_samples}")


def _has_type(value: Any, hint: Any) -> bool:
    """Whole numbers stand for floats; a bool is no number."""
    arguments = typing.get_args(hint)
    if isinstance(hint, types.UnionType):
        return any(_has_type(value, argument) for argument in arguments)
    if typing.get_origin(hint) is tuple:
        if not isinstance(value, tuple):
            return False
        if arguments[-1] is Ellipsis:
            return all(_has_type(element, arguments[0]) for element in value)
        return len(value) == len(arguments) and all(map(_has_type, value, arguments))
    if hint in (int, float):
        return isinstance(value, int | hint) and not isinstance(value, bool)
    return isinstance(value, hint)


def _type_name(hint: Any) -> str:
    return hint.__name__ if isinstance(hint, type) and not typing.get_args(hint) else str(hint)


def _elements(value: Any):
    """The leaves of nested tuples; nothing for None."""
    if isinstance(value, tuple):
        for element in value:
            yield from _elements(element)
    elif value is not None:
        yield value


def _error(name: str, value: Any, text: str) -> ValueError:
    return ValueError(f"{name}={value}: must be {text}")
