"""Convert a peer's checkpoint to the project's safetensors file, without PyTorch.

python -m eval.convert dimp50.pth dimp50.safetensors --model dimp50

With --heads the source is a backbone alone, which is joined with heads that were trained on it:

python -m eval.convert resnet18-f37072fd.pth dimp18.safetensors --model dimp18 --heads released

MemTrack's is a checkpoint of TensorFlow, which must be installed to read it: pip install 'jaxtrack[tensorflow]'.

python -m eval.convert model.ckpt-100000.index memtrack.safetensors --model memtrack
"""

import argparse
import math
import sys
from pathlib import Path

import jax
import numpy as np

from trackers.nets.models import MEMORY_MODELS, PEER_MODELS, networks
from trackers.weights import WeightsError, files, heads, memtrack, names, released
from trackers.weights.torch_reader import read_state_dict

RELEASED = "released"
JOINED = ("siamrpnpp_mobilenetv2_1.0",)  # no peer has them; heads of ours and a public backbone make them


def convert(source: Path, destination: Path, model: str, heads_file: Path | None = None) -> dict:
    """Convert `source` to `destination`; returns what was done, which is also stored in the file.

    heads_file: of `train.release`; `source` then is the backbone of `model`, and the result both together.
    Raises `WeightsError`, one line that names the file.
    """
    tensorflow = model in MEMORY_MODELS and source.suffix != ".npz"
    state = read_tensorflow(source) if tensorflow else read_state_dict(source)
    read = model if heads_file is None else _backbone_model(model)
    if read not in PEER_MODELS:
        raise WeightsError(f"{source}: no checkpoint of a peer holds {model}; give its backbone's, and --heads")
    remark = f" ({memtrack.INFERRED})" if model in MEMORY_MODELS else ""
    params, dropped = names.convert(state, read, f"{source}{remark}")
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
        **names.conventions(read),
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


def _backbone_model(model: str) -> str:
    """The model that is nothing but the backbone of `model`."""
    wanted = {"backbone": networks(model)["backbone"]}
    found = next((other for other in PEER_MODELS if networks(other) == wanted), None)
    if found is None:
        raise WeightsError(f"--heads: no file holds the backbone of {model} alone")
    if found == model:
        raise WeightsError(f"--heads: {model} is a backbone alone, it has no heads")
    return found


def _heads_file(model: str, choice: str | None) -> Path | None:
    """The file of --heads FILE or --heads released."""
    if choice != RELEASED:
        return choice and Path(choice)
    file = released.heads(model)
    if file is None:
        raise WeightsError(f"--heads {RELEASED}: no heads of {model} come with the package; give a file")
    return file


def main(arguments: list[str] | None = None) -> int:
    description, _, examples = __doc__.partition("\n\n")
    parser = argparse.ArgumentParser(
        "python -m eval.convert",
        description=description,
        epilog=f"Example: {examples}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("source", type=Path, help="checkpoint of torch.save, .npz state dict, or .index of TensorFlow")
    parser.add_argument("destination", type=Path, help="safetensors file to write")
    parser.add_argument(
        "--model", required=True, choices=(*PEER_MODELS, *JOINED), help="the networks that the file is for"
    )
    parser.add_argument("--heads", help=f"file of train.release to join, or {RELEASED!r}: the package's own")
    args = parser.parse_args(arguments)
    try:
        heads_file = _heads_file(args.model, args.heads)
        info = convert(args.source, args.destination, args.model, heads_file)
    except WeightsError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"{args.destination}: {args.model}, {info['tensors']} tensors, {info['parameters']:,} parameters")
    print(f"source: {args.source}, {info['source_tensors']} tensors, sha256 {info['source_sha256']}")
    if heads_file:
        print(f"heads: {heads_file}, sha256 {info['heads']['source_sha256']}")
    print(f"dropped: {len(info['dropped'])} {', '.join(info['dropped'])}".rstrip())
    print(f"sha256 {files.sha256(args.destination)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
