"""MemTrack's tensor names and layouts, in the authors' TensorFlow 1 checkpoints.

The names are inferred from the variable scopes of the authors' code; no checkpoint was at hand to compare them with.
So they are matched by their ends, whatever scopes stand before, and every mismatch is an error that lists both sides.
Kernels have our layout already. The LSTM's kernel has no name of its own: it is told by its shape.
"""

import numpy as np
from flax.traverse_util import flatten_dict

from trackers.nets.alexnet import MEMTRACK_BATCH_NORM
from trackers.nets.models import expected_variables
from trackers.weights.layout import Path, Source, State

TENSORFLOW = True
INFERRED = "names inferred from the authors' code, no checkpoint was at hand"
NORM_LEAVES = {"scale": "gamma", "bias": "beta", "mean": "moving_mean", "var": "moving_variance"}
DENSE = {"residual": "add_vector", "read_strength": "write_strengths"}  # the others are called the same
CONVOLUTIONS = ("input_layer", "score")  # of 1 x 1 cells
LSTM = ("memory", "params", "lstm", "kernel")
OPTIMIZER_ENDS = ("/Adam", "/Adam_1", "beta1_power", "beta2_power", "global_step")


def source(state: State, model: str) -> Source:
    """How the tensors of `model` are found in `state`, the variables of a checkpoint by their full names."""
    expected = flatten_dict(expected_variables(model))
    ends = {name(path) for path in expected}
    lstm = expected[LSTM].shape
    unused = {full for full in state if full.endswith(OPTIMIZER_ENDS)}
    short: dict[str, str] = {}  # full name -> its end, where that is the end of no other
    for full, value in state.items():
        found = [end for end in ends if full == end or full.endswith("/" + end)]
        if not found and full.endswith("kernel") and value.shape == lstm:
            found = [name(LSTM)]
        short[full] = found[0] if found and full not in unused else full
    taken = list(short.values())
    renamed = {end if taken.count(end) == 1 else full: state[full] for full, end in short.items()}
    return Source(renamed, name, shape, to_ours, unused, back=to_peer)


def conventions(model: str) -> dict[str, object]:
    """What a user of the converted file has to know."""
    scaled = "RGB 0..255, divided by 255 in the backbone"
    epsilon = MEMTRACK_BATCH_NORM["epsilon"]
    return {"project": "memtrack", "input": scaled, "batch_norm_epsilon": epsilon, "names": INFERRED}


def name(path: Path) -> str:
    """The end of the peer's name of the tensor at `path`."""
    part, _, module, leaf = path
    if part == "head":
        return f"bn_response/{NORM_LEAVES[leaf]}"
    if module.startswith("bn"):
        return f"conv{module[-1]}_bn/{NORM_LEAVES[leaf]}"
    if module.startswith("norm_"):
        return f"{module.removeprefix('norm_')}/{NORM_LEAVES[leaf]}"
    return f"{DENSE.get(module, module)}/{leaf}"


def shape(path: Path, ours: tuple[int, ...]) -> tuple[int, ...]:
    """The peer's shape of the tensor at `path`, whose shape here is `ours`."""
    return (1, 1, *ours) if path[2] in CONVOLUTIONS else ours


def to_ours(path: Path, value: np.ndarray) -> np.ndarray:
    """The peer's tensor in our layout, float32."""
    value = value[0, 0] if path[2] in CONVOLUTIONS else value
    return np.asarray(value, np.float32, order="C")


def to_peer(path: Path, value: np.ndarray) -> np.ndarray:
    """The inverse of `to_ours`."""
    return value.reshape(shape(path, value.shape))
