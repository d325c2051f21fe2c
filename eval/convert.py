"""Convert weights for a tracker to the project's safetensors file, without PyTorch.

    python -m eval.convert resnet18-f37072fd.pth dimp18.safetensors --tracker dimp18_heads
    python -m eval.convert dimp50.pth dimp50.safetensors --tracker dimp50

The source is a checkpoint of the tracker's reference implementation, or the public backbone of a tracker whose other
parts ("heads") come with this package: what the file holds decides. --heads FILE joins heads of your own training.
--model names the networks instead, for files that are for no tracker, such as a bare backbone to train on.

    python -m eval.convert resnet50-0676ba61.pth r50.safetensors --model resnet50

MemTrack's is a checkpoint of TensorFlow, which must be installed to read it: pip install 'jaxtrack[tensorflow]'.

    python -m eval.convert model.ckpt-100000.index memtrack.safetensors --tracker memtrack
"""

import math
import sys
from pathlib import Path

import jax
import numpy as np

import trackers
from eval import command
from eval.files import keep_apart
from trackers.nets import models
from trackers.weights import WeightsError, files, heads, released
from trackers.weights.convert import backbone_model, from_peer, holds_backbone_alone, reader
from trackers.weights.layout import State
from trackers.weights.torch_reader import read_state_dict

RELEASED = "released"
DETAILS = """SOURCE is a checkpoint of the tracker's reference implementation, or the public backbone of a tracker whose
other parts ("heads") come with this package: what the file holds decides. PyTorch is not needed. A checkpoint of
TensorFlow needs TensorFlow: pip install 'jaxtrack[tensorflow]'."""


def convert(source: Path, destination: Path, model: str, heads_file: Path | None = None) -> dict:
    """Convert `source` to `destination`; returns what was done, which is also stored in the file.

    heads_file: of `train.release`; `source` then is the backbone of `model`, and the result both together.
    Raises `WeightsError`, one line that names the file.
    """
    read = model if heads_file is None else _backbone_of(model)
    if models.get(read).peer is None:
        problem = f"no reference implementation has checkpoints of {model}; give its backbone's and --heads"
        raise WeightsError(f"{source}: {problem}")
    return _write(source, _read(source, read), destination, model, read, heads_file)


def convert_for(tracker: str, source: Path, destination: Path) -> dict:
    """`convert` to the model of `tracker`: whole, or a backbone with the heads that come with the package.

    What the file holds decides. Raises `WeightsError` as `convert`, and ValueError for an unknown tracker.
    """
    model = trackers.get(tracker).model
    if model is None:
        raise WeightsError(f"{tracker} is built by code and needs no weights")
    row, heads_file = models.get(model), released.heads(model)
    if row.peer is None and heads_file is None:
        problem = f"{tracker} ({model}) has neither a reference implementation nor released heads"
        hint = "its weights come with the package" if released.path(model) else "train it"
        raise WeightsError(f"{source}: nothing to convert: {problem}; {hint}")
    read = model if row.peer else _backbone_of(model)
    state = _read(source, read)
    if row.peer and not holds_backbone_alone(state, model):
        return _write(source, state, destination, model, model, None)
    if heads_file is None:
        parts = " and ".join(part for part in models.networks(model) if part != "backbone")
        raise WeightsError(
            f"{source}: a backbone alone, and no {parts} of {tracker} come with the package; give your own with --heads"
        )
    return _write(source, state, destination, model, _backbone_of(model), heads_file)


def _read(source: Path, model: str) -> State:
    if getattr(reader(model), "TENSORFLOW", False) and source.suffix != ".npz":
        return read_tensorflow(source)
    return read_state_dict(source)


def _write(
    source: Path, state: State, destination: Path, model: str, read: str, heads_file: Path | None
) -> dict[str, object]:
    """`state`, which is what `source` holds, as `read`, with heads to `model`."""
    conventions = reader(read).conventions(read)
    remark = f" ({conventions['names']})" if "names" in conventions else ""
    params, dropped = from_peer(state, read, f"{source}{remark}")
    joined = {}
    if heads_file is not None:
        params, metadata = heads.join(heads_file, model, params["backbone"], str(source))
        joined = {"heads": {"source": heads_file.name, "source_sha256": files.sha256(heads_file), **metadata}}
        del joined["heads"]["sha256"]  # of single tensors
    leaves = jax.tree.leaves(params)
    info = {
        "source": source.name,
        "source_sha256": files.sha256(source),
        "source_tensors": len(state),
        "tensors": len(leaves),
        "parameters": sum(math.prod(leaf.shape) for leaf in leaves),
        "dropped": dropped,
        **conventions,
        **joined,
    }
    files.save(destination, params, model=model, info=info)
    return info


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


def _backbone_of(model: str) -> str:
    """The model that is nothing but the backbone of `model`, where `--heads` is given."""
    found = backbone_model(model)
    if found is None:
        raise WeightsError(f"--heads: no file holds the backbone of {model} alone")
    if found == model:
        raise WeightsError(f"--heads: {model} is a backbone alone, it has no heads")
    return found


def _heads_file(model: str, choice: str) -> Path:
    """The file of --heads FILE or --heads released."""
    if choice != RELEASED:
        return Path(choice)
    file = released.heads(model)
    if file is None:
        raise WeightsError(f"--heads {RELEASED}: no heads of {model} come with the package; give a file")
    return file


def parser() -> command.Parser:
    parser = command.make_parser(
        "eval.convert",
        "python -m eval.convert resnet18-f37072fd.pth dimp18.safetensors --tracker dimp18_heads",
        "python -m eval.convert dimp50.pth dimp50.safetensors --tracker dimp50",
        "python -m eval.convert model.ckpt-100000.index memtrack.safetensors --tracker memtrack",
        details=DETAILS,
    )
    convertible = [name for name in models.names() if models.get(name).peer or models.get(name).heads]
    parser.add_argument("source", type=Path, help="checkpoint of torch.save, .npz state dict, or .index of TensorFlow")
    parser.add_argument("destination", type=Path, help="safetensors file to write")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--tracker", help="the tracker that the file is for; networks and heads are found from it")
    models_text = f"for bare backbones and experts: the networks that the file is for, one of {', '.join(convertible)}"
    what.add_argument("--model", metavar="MODEL", choices=convertible, help=models_text)
    parser.add_argument("--heads", help=f"file of train.release to join, or {RELEASED!r}: the package's own")
    return parser


@command.reports(ValueError, failed=2)
def main(arguments: list[str] | None = None) -> None:
    args = parser().parse_args(arguments)
    keep_apart([args.destination], [args.source, args.heads])
    model = args.model or trackers.get(args.tracker).model
    if args.tracker and not (args.heads and model):
        info = convert_for(args.tracker, args.source, args.destination)
    else:
        info = convert(args.source, args.destination, model, args.heads and _heads_file(model, args.heads))
    print(f"{args.destination}: {model}, {info['tensors']} tensors, {info['parameters']:,} parameters")
    print(f"source: {args.source}, {info['source_tensors']} tensors, sha256 {info['source_sha256']}")
    if "heads" in info:
        print(f"heads: {info['heads']['source']}, sha256 {info['heads']['source_sha256']}")
    print(f"dropped: {len(info['dropped'])} {', '.join(info['dropped'])}".rstrip())
    print(f"sha256 {files.sha256(args.destination)}")


if __name__ == "__main__":
    sys.exit(main())
