"""Many settings of one tracker in one compiled call: the searched floats of its Config are an argument, and batched.

`make` runs inside the compiled function, with traced numbers in place of the config's own, so that a new setting needs
no compilation and every image is read once for all settings. A setting is the tuple of the searched fields' values.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import jax
import numpy as np

import trackers
from eval.running.passes import Compiled, decoded, sequence_key
from eval.scoring import metrics
from eval.sources.ahead import read_ahead
from eval.sources.sequences import Sequence
from ops.boxes import Box
from trackers import rules
from trackers.base import Frame, Params, Tracker
from trackers.images import xywh_to_box
from trackers.rules import SettingError

Setting = tuple[float, ...]


def batched(make: Callable[[Any], Tracker], config: Any, fields: tuple[str, ...]) -> Tracker:
    """The tracker with K settings at once, itself a `Tracker`; leaves of its state and its estimates have a leading K.

    Its parameters are `(params, values [K, F])`, the values of the dotted `fields` of `config`. What does not depend on
    the values (usually most of `init`) is computed once for all.
    """

    def one(values) -> Tracker:
        return make(rules.substitute(config, dict(zip(fields, values, strict=True))))

    def init(params, key, frame, box):
        params, values = params
        return jax.vmap(lambda values: one(values).init(params, key, frame, box))(values)

    def track(params, states, frame):
        params, values = params
        return jax.vmap(lambda values, state: one(values).track(params, state, frame))(values, states)

    return Tracker(init, track)


def check_floats(config: Any, fields: tuple[str, ...]) -> None:
    """SettingError, one line with the choices, for a dotted field that does not exist or is not a float."""
    floats = rules.float_fields(config)
    for field in fields:
        if field not in floats:
            rules.substitute(config, {field: None})  # an unknown name has an error of its own
            raise SettingError(f"{field}: not a float, so not searched; floats: {', '.join(floats)}")


def check_arguments(make: Callable[[Any], Tracker], config: Any, fields: tuple[str, ...], params: Params) -> None:
    """SettingError, one line with the choices, for a float that cannot be an argument of the compiled program.

    Such a float is read by numpy or Python while the tracker is traced.
    """
    floats = rules.float_fields(config)
    if _traces(make, config, fields, params):
        return
    wrong = [field for field in fields if not _traces(make, config, (field,), params)] or list(fields)
    others = ", ".join(field for field in floats if field not in wrong)
    raise SettingError(f"{', '.join(wrong)}: decides the program itself, so not searched; others: {others}")


def _traces(make, config, fields: tuple[str, ...], params: Params) -> bool:
    frame = Frame(jax.ShapeDtypeStruct((256, 256, 3), np.uint8), jax.ShapeDtypeStruct((2,), np.int32))
    box = Box(*[jax.ShapeDtypeStruct((2,), np.float32)] * 2)
    tracker, values = batched(make, config, fields), jax.ShapeDtypeStruct((1, len(fields)), np.float32)
    try:
        states = jax.eval_shape(tracker.init, (params, values), jax.random.key(0), frame, box)
        jax.eval_shape(tracker.track, (params, values), states, frame)
    except jax.errors.JAXTypeError:
        return False
    return True


def chunks(chosen: list[Setting], size: int) -> Iterator[list[Setting]]:
    """The settings, at most `size` at a time; few sizes are compiled, since the last chunk is a power of two.

    It is filled with repetitions of its last setting.
    """
    for start in range(0, len(chosen), size):
        chunk = chosen[start : start + size]
        padded = min(size, 1 << (len(chunk) - 1).bit_length())
        yield chunk + chunk[-1:] * (padded - len(chunk))


def tracking(tracker: Tracker, params: Params, seed: int) -> Callable[[list[Setting], Sequence], np.ndarray]:
    """`(settings, sequence) -> boxes [K, T, 4]` with a batched tracker, compiled once for each K."""
    params, key = jax.device_put(params), jax.random.key(seed)
    compiled: dict[int, Compiled] = defaultdict(lambda: Compiled.of(tracker))

    def track(chosen: list[Setting], sequence: Sequence) -> np.ndarray:
        return track_settings(compiled[len(chosen)], params, chosen, sequence, key)

    return track


def track_settings(
    compiled: Compiled, params: Params, chosen: list[Setting], sequence: Sequence, key: jax.Array
) -> np.ndarray:
    """Boxes `[K, T, 4]` x, y, w, h of one pass with each of K settings, the numbers of `eval.run` with `--set`.

    compiled: of a `batched` tracker, always with as many settings. `params` and `key` (of the run, not of the sequence)
    lie on the device. SequenceError names an image that cannot be read.
    """
    boxes = np.empty((len(sequence.frames), len(chosen), 4))
    boxes[0] = sequence.boxes[0]
    arguments, states = (params, jax.device_put(np.array(chosen, np.float32))), None
    key = sequence_key(key, sequence.name)
    with closing(read_ahead(decoded(sequence))) as images:
        for index, image in enumerate(images):
            if states is None:
                box = jax.device_put(xywh_to_box(boxes[0, 0]))
                init = compiled.init.prepare(arguments, key, image, box)
                states = init(arguments, key, jax.device_put(image), box)
            else:
                track = compiled.track.prepare(arguments, states, image)
                states, estimates = track(arguments, states, jax.device_put(image))
                boxes[index] = trackers.xywh(jax.device_get(estimates.box))
    return np.moveaxis(boxes, 1, 0)


def auc(boxes: np.ndarray, sequence: Sequence) -> float:
    """AUC of boxes `[T, 4]` by the rule of `eval.scoring.metrics`; 0 for a setting with which a box is not finite."""
    if not np.isfinite(boxes).all():
        return 0.0
    return metrics.score_sequence(boxes, sequence.boxes, sequence.visible)["auc"]
