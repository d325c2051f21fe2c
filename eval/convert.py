"""Convert a peer's checkpoint to the project's safetensors file, without PyTorch.

python -m eval.convert dimp50.pth dimp50.safetensors --model dimp50
"""

import argparse
import math
import sys
from pathlib import Path

import jax

from trackers.nets.models import PEER_MODELS
from trackers.nets.resnet import BATCH_NORM_EPSILON
from trackers.weights import WeightsError, files, names
from trackers.weights.torch_reader import read_state_dict


def convert(source: Path, destination: Path, model: str) -> dict:
    """Convert `source` to `destination`; returns what was done, which is also stored in the file.

    Raises `WeightsError`, one line that names the file.
    """
    state = read_state_dict(source)
    params, dropped = names.convert(state, model, str(source))
    leaves = jax.tree.leaves(params)
    info = {
        "source": source.name,
        "source_sha256": files.sha256(source),
        "source_tensors": len(state),
        "tensors": len(leaves),
        "parameters": sum(math.prod(leaf.shape) for leaf in leaves),
        "dropped": dropped,
        "batch_norm_epsilon": BATCH_NORM_EPSILON,
        "input": "RGB 0..255, trackers.nets.resnet.normalize",
    }
    files.save(destination, params, model=model, info=info)
    return info


def main(arguments: list[str] | None = None) -> int:
    description, example = __doc__.strip().split("\n\n")
    parser = argparse.ArgumentParser(
        "python -m eval.convert", description=description, epilog=f"Example: {example}"
    )
    parser.add_argument("source", type=Path, help="checkpoint of torch.save, or .npz state dict")
    parser.add_argument("destination", type=Path, help="safetensors file to write")
    parser.add_argument("--model", required=True, choices=PEER_MODELS, help="the networks that the file is for")
    args = parser.parse_args(arguments)
    try:
        info = convert(args.source, args.destination, args.model)
    except WeightsError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"{args.destination}: {args.model}, {info['tensors']} tensors, {info['parameters']:,} parameters")
    print(f"source: {args.source}, {info['source_tensors']} tensors, sha256 {info['source_sha256']}")
    print(f"dropped: {len(info['dropped'])} {', '.join(info['dropped'])}".rstrip())
    print(f"sha256 {files.sha256(args.destination)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
