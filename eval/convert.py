"""Convert weights for a tracker to the project's safetensors file, and back, without PyTorch.

    python -m eval.convert resnet18 dimp18.safetensors --tracker dimp18_heads
    python -m eval.convert dimp50.pth dimp50.safetensors --tracker dimp50

The source is the name of a public backbone, which is then fetched and kept in the cache, or a file: a checkpoint of the
tracker's reference implementation, or the public backbone of a tracker whose other parts ("heads") come with this
package. What it holds decides. --heads FILE joins heads of your own training.
--model names the networks instead, for files that are for no tracker, such as a bare backbone to train on.

    python -m eval.convert resnet50 r50.safetensors --model resnet50

MemTrack's is a checkpoint of TensorFlow, which must be installed to read it: pip install 'jaxtrack[tensorflow]'.

    python -m eval.convert model.ckpt-100000.index memtrack.safetensors --tracker memtrack

--to writes a file of this project, trained or converted, for the reference implementation: names, shapes and layouts
are those of its own checkpoints. The destination's suffix says in which form: .pth, .safetensors or .npz. What it has
and we do not (layers behind those that the tracker reads, counters of batch normalization) is zero, or comes from a
checkpoint --like.

    python -m eval.convert runs/siamfc/weights.safetensors siamfc.pth --to siamfc-pytorch
    network.load_state_dict(torch.load("siamfc.pth"))  # in PyTorch; safetensors.torch.load_file(...) for the other form
"""

import io
import math
import sys
from pathlib import Path

import jax
import numpy as np
import safetensors.numpy

import trackers
from eval import command, parsers
from eval.files import keep_apart
from eval.parsers import RELEASED
from eval.sources.backbones import BACKBONES, fetched
from trackers.nets import models
from trackers.weights import WeightsError, files, released, sources
from trackers.weights.convert import Written, backbone_model, reader, to_peer
from trackers.weights.layout import State
from trackers.weights.torch_reader import read_state_dict
from trackers.weights.torch_writer import torch_file

TORCH_SUFFIXES = (".pth", ".pt", ".tar", ".model")  # as the projects call theirs


def convert(source: Path, destination: Path, model: str, heads_file: Path | None = None) -> dict:
    """Convert `source` to `destination`; returns what was done, which is also stored in the file.

    The source holds all of `model`, or its backbone, and the rest is from `heads_file` (of `train.release`) or comes
    with the package. Raises `WeightsError`, one line that names the file.
    """
    row = models.get(model)
    if row.peer is None and (heads_file or released.heads(model)) is None:
        hint = "its weights come with the package" if released.path(model) else "train it"
        problem = f"{model} has neither a reference implementation nor released heads"
        raise WeightsError(f"{source}: nothing to convert: {problem}; {hint}")
    if heads_file is not None and backbone_model(model) is None:
        raise WeightsError(f"--heads: no file holds the backbone of {model} alone")
    if heads_file is not None and backbone_model(model) == model:
        raise WeightsError(f"--heads: {model} is a backbone alone, it has no heads")
    state = read_tensorflow(source) if _of_tensorflow(source, model) else None
    if state is None and not sources.is_ours(source):
        state = read_state_dict(source)
    found = sources.whole(source, model, state, heads_file)
    if found.read == model and state is None:
        raise WeightsError(f"{source}: is a file of {model} already; nothing to convert")
    leaves = jax.tree.leaves(found.params)
    info = {
        "source": source.name,
        "source_sha256": files.sha256(source),
        "source_tensors": found.tensors,
        "tensors": len(leaves),
        "parameters": sum(math.prod(leaf.shape) for leaf in leaves),
        "dropped": found.dropped,
        **reader(found.read).conventions(found.read),
    }
    if found.heads is not None:
        info["heads"] = {"source": found.heads.name, "source_sha256": files.sha256(found.heads), **found.heads_metadata}
        del info["heads"]["sha256"]  # of single tensors
    files.save(destination, found.params, model=model, info=info)
    return info


def _of_tensorflow(source: Path, model: str) -> bool:
    """Whether a source for `model` must be a checkpoint of TensorFlow."""
    peer = models.get(model).peer and reader(model)
    return getattr(peer, "TENSORFLOW", False) and source.suffix not in (".npz", ".safetensors")


def convert_back(source: Path, destination: Path, project: str, like: Path | None = None) -> Written:
    """Write `source`, a file of this project, for the reference implementation `project`; returns what was written.

    like: a checkpoint of the same networks, see `to_peer`. Raises `WeightsError`, one line that names the file.
    """
    model = files.read_metadata(source)["model"]
    if model not in models.names():
        raise WeightsError(f"{source}: made for {model!r}, which is no model of {', '.join(models.names())}")
    if models.get(model).peer is None:
        raise WeightsError(f"{source}: made for {model}, which no reference implementation has")
    theirs = reader(model).conventions(model)["project"]
    if project != theirs:
        raise WeightsError(f"{source}: made for {model}, whose networks are those of {theirs}; give --to {theirs}")
    if destination.suffix not in (*TORCH_SUFFIXES, ".safetensors", ".npz"):
        raise WeightsError(f"{destination}: the name must end with .pth, .safetensors or .npz")
    params = files.load(source, models.expected_variables(model))
    state = None if like is None else read_state_dict(like)
    written = to_peer(params, model, str(source), state, str(like))
    files.write_atomically(destination, _packed(written.state, destination.suffix))
    return written


def _packed(state: State, suffix: str) -> bytes:
    """A file of tensors, of the form that `suffix` names."""
    if suffix == ".safetensors":
        tensors = {name: np.asarray(value, order="C") for name, value in state.items()}
        return safetensors.numpy.save(tensors, {"format": "pt"})  # what safetensors.torch asks for
    if suffix == ".npz":
        buffer = io.BytesIO()
        np.savez(buffer, **state)
        return buffer.getvalue()
    return torch_file(state)


def read_tensorflow(source: Path) -> dict[str, np.ndarray]:
    """Variables by name of a TensorFlow checkpoint, `source` its .index file, the .data files beside it.

    Raises `WeightsError`, one line that names the file, also where TensorFlow is not installed.
    """
    if source.suffix != ".index" or not source.is_file():
        raise WeightsError(f"{source}: not the .index file of a TensorFlow checkpoint (nor an .npz of its variables)")
    try:
        import tensorflow
    except ImportError as error:
        raise WeightsError(f"{source}: needs TensorFlow to be read: pip install 'jaxtrack[tensorflow]'") from error
    try:
        reader = tensorflow.train.load_checkpoint(str(source.with_suffix("")))
        return {name: np.asarray(reader.get_tensor(name)) for name in reader.get_variable_to_shape_map()}
    except Exception as error:  # TensorFlow's own classes, which are not known where it is not installed
        reason = " ".join(str(error).split())
        raise WeightsError(f"{source}: cannot be read by TensorFlow: {reason:.200}") from error


def _heads_file(model: str, choice: str) -> Path:
    """The file of --heads FILE or --heads released."""
    if choice != RELEASED:
        return Path(choice)
    file = released.heads(model)
    if file is None:
        raise WeightsError(f"--heads {RELEASED}: no heads of {model} come with the package; give a file")
    return file


@command.reports(ValueError)
def main(arguments: list[str] | None = None) -> None:
    args = parsers.convert().parse_args(arguments)
    if (args.heads and args.to) or (args.like and not args.to):
        parsers.convert().error("--heads goes with --tracker or --model, --like with --to")
    keep_apart([args.destination], [args.source, args.heads, args.like])
    if str(args.source) in BACKBONES and not args.source.exists():
        args.source = fetched(str(args.source))
    if args.to:
        print_back(args.source, args.destination, convert_back(args.source, args.destination, args.to, args.like))
        return
    model = args.model or trackers.get(args.tracker).model
    if model is None:
        raise WeightsError(f"{args.tracker} is built by code and needs no weights")
    info = convert(args.source, args.destination, model, args.heads and _heads_file(model, args.heads))
    print(f"{args.destination}: {model}, {info['tensors']} tensors, {info['parameters']:,} parameters")
    print(f"source: {args.source}, {info['source_tensors']} tensors, sha256 {info['source_sha256']}")
    if "heads" in info:
        print(f"heads: {info['heads']['source']}, sha256 {info['heads']['source_sha256']}")
    print(f"dropped: {len(info['dropped'])} {', '.join(info['dropped'])}".rstrip())
    print(f"sha256 {files.sha256(args.destination)}")


def print_back(source: Path, destination: Path, written: Written) -> None:
    size = sum(value.size for value in written.state.values())
    print(f"{destination}: {len(written.state)} tensors, {size:,} numbers")
    print(f"source: {source}, sha256 {files.sha256(source)}")
    print(f"filled: {len(written.filled)} {', '.join(written.filled)}".rstrip())
    print(f"dropped: {len(written.lost)} {', '.join(written.lost)}".rstrip())
    print(f"sha256 {files.sha256(destination)}")


if __name__ == "__main__":
    sys.exit(main())
