"""What the readers of all peers share: how a checkpoint is described, PyTorch's layouts and names of leaves.

Everything is said once and used both ways: names and shapes follow from the path here, and each rule for values stands
beside its inverse.
"""

from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import NamedTuple

import numpy as np

from trackers.nets.resnet import BATCH_NORM_EPSILON

Path = tuple[str, ...]  # of a tensor here: part, collection, module .., leaf
State = dict[str, np.ndarray]

# index of a convolution in a torch Sequential of the Siamese trackers' AlexNet; its batch normalization comes next
ALEXNET_INDEX = {"1": 0, "2": 4, "3": 8, "4": 11, "5": 14}
FIRST_CONVOLUTIONS = (("conv0", "kernel"), ("conv1", "kernel"))
AXES = {4: (2, 3, 1, 0), 2: (1, 0)}  # PyTorch's axes of a kernel, in the order in which we have them
LEAVES = {"kernel": "weight", "scale": "weight", "bias": "bias", "mean": "running_mean", "var": "running_var"}


class Source(NamedTuple):
    """A peer's state dict, and how the tensors of a model are found in it and written for it."""

    state: State  # the peer's tensors, under its names
    name: Callable[[Path], str]  # the peer's name of the tensor at a path here
    shape: Callable[[Path, tuple[int, ...]], tuple[int, ...]]  # the peer's shape, from the path and the shape here
    value: Callable[[Path, np.ndarray], np.ndarray]  # the tensor here, from the path and the peer's
    unused: set[str]  # names that may be there and mean nothing here (counters of batch normalization besides)
    constants: Mapping[Path, np.ndarray] = MappingProxyType({})  # tensors here that the peer does not have
    back: Callable[[Path, np.ndarray], np.ndarray] | None = None  # the peer's tensor, from the path and the one here
    besides: Mapping[str, tuple[int, ...]] = MappingProxyType({})  # shapes of what the peer needs and we do not have


def torch_shape(path: Path, shape: tuple[int, ...]) -> tuple[int, ...]:
    """PyTorch's shape of a kernel, or of a tensor with one axis, whose shape here is `shape`."""
    return tuple(shape[axis] for axis in np.argsort(AXES[len(shape)])) if len(shape) in AXES else shape


def to_channels_last(path: Path, value: np.ndarray) -> np.ndarray:
    """PyTorch's kernel, or tensor with one axis, in our layout, float32."""
    return np.asarray(value.transpose(AXES.get(value.ndim)), np.float32, order="C")


def to_channels_first(path: Path, value: np.ndarray) -> np.ndarray:
    """The inverse of `to_channels_last`."""
    order = np.argsort(AXES[value.ndim]) if value.ndim in AXES else None
    return np.asarray(value.transpose(order), order="C")


def from_bgr(path: Path, value: np.ndarray) -> np.ndarray:
    """`to_channels_last`, the first convolution from BGR to RGB."""
    return to_channels_last(path, _swap_colors(path, value))


def to_bgr(path: Path, value: np.ndarray) -> np.ndarray:
    """The inverse of `from_bgr`."""
    return np.asarray(_swap_colors(path, to_channels_first(path, value)), order="C")


def _swap_colors(path: Path, value: np.ndarray) -> np.ndarray:
    """PyTorch's tensor, the input channels of the first convolution in the opposite order."""
    return value[:, ::-1] if path[:2] == ("backbone", "params") and path[2:] in FIRST_CONVOLUTIONS else value


def is_norm(module: str) -> int:
    """Batch normalization follows its convolution in every torch Sequential of the Siamese trackers: 0 or 1."""
    return int(module.startswith("bn"))


def counters(names: Iterable[str]) -> set[str]:
    """The names of the counters that belong to the batch normalizations among `names`."""
    means = (name.removesuffix("running_mean") for name in names if name.endswith(".running_mean"))
    return {name + "num_batches_tracked" for name in means}


def norm_with_bias(name: str, bias: np.ndarray) -> State:
    """The batch normalization that only adds `bias`: scale 1, mean 0, variance 1 - epsilon."""
    one = np.ones_like(bias, np.float32)
    return {
        f"{name}.weight": one,
        f"{name}.bias": bias,
        f"{name}.running_mean": 0 * one,
        f"{name}.running_var": one - np.float32(BATCH_NORM_EPSILON),
    }


def resnet_modules(modules: list[str]) -> str:
    """torchvision's name of a module of a ResNet."""
    name = ".".join(modules)
    for layer in "1234":
        name = name.replace(f"layer{layer}_", f"layer{layer}.")
    return name.replace("downsample_conv", "downsample.0").replace("downsample_bn", "downsample.1")
