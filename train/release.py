"""Trained weights as a file to publish: half precision, all parts or some, and a model card beside it.

    python -m train.release runs/dimp_tiny --out trackers/weights/released/dimp_tiny.safetensors
    python -m train.release runs/dimp18_heads --out trackers/weights/released/dimp18_heads.safetensors \\
        --parts classifier iou_net --backbone r18.safetensors --measured "AUC 0.61 on ..." --note "Not trained on ..."
"""

import math
import sys
from pathlib import Path
from typing import Any

import jax
import numpy as np

import trackers
from eval.command import reports
from eval.files import ResultError, keep_apart
from trackers.nets import models
from trackers.weights import WeightsError, files, heads, sources
from trackers.weights.convert import backbone_model
from train import parsers

Params = Any

LICENSE = "Apache-2.0"


def release(
    source: Path,
    out: Path,
    parts: list[str] | None = None,
    backbone: Path | None = None,
    *,
    command: str = "",
    measured: list[str] | None = None,
    notes: list[str] | None = None,
) -> dict[str, Any]:
    """Write `parts` (None: all) of the training's weight file `source` to `out`, and the card `out` with suffix .md.

    source: `weights.safetensors` (or another weight file) of a run, or the run's folder. backbone: the file that the
    run started from and kept frozen, to be named in the card. Returns what was stored with the weights. Raises
    `WeightsError`, one line: no file of a training, no such part, numbers that are not finite or beyond float16, a
    backbone that is not the run's, parts of a model that no public backbone fits. `ResultError` where a file would
    replace one that is read, or one that is no card.
    """
    source = source / "weights.safetensors" if source.is_dir() else source
    if out.suffix != ".safetensors":
        raise WeightsError(f"{out}: the name must end with .safetensors")
    keep_apart([out], [source, backbone])
    card_file = out.with_suffix(".md")
    if card_file.exists() and not card_file.read_bytes().startswith(_card_title(out).encode()):
        raise ResultError(f"{card_file}: is there already, and no card of {out.name}; move it or choose another --out")
    metadata = files.read_metadata(source)
    model, trained = metadata["model"], metadata["info"]
    if "config" not in trained or model not in models.names():
        raise WeightsError(f"{source}: not written by a training of this project")
    params = files.load(source, models.expected_variables(model))
    unknown = sorted(set(parts or ()) - set(params))
    if unknown:
        raise WeightsError(f"{source}: has no part {', '.join(unknown)}; it has {', '.join(params)}")
    kept = {part: variables for part, variables in params.items() if not parts or part in parts}
    info = {
        **trained,
        "parts": list(kept),
        "parameters": sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(kept)),
        "source_sha256": files.sha256(source),
        "license": LICENSE,
        "command": " ".join(command.split()),
        "measured": measured or [],
        "notes": notes or [],
    }
    if "backbone" not in kept:
        if backbone_model(model) is None:
            raise WeightsError(f"{source}: no public backbone fits {model}, release all parts")
        info["backbone"] = heads.identify(model, params["backbone"])
        if not np.isfinite(info["backbone"]["responses"]).all():
            raise WeightsError(f"{source}: its backbone does not give finite numbers")
        if backbone is not None:
            info["backbone"] |= _origin(source, model, params["backbone"], backbone)
    elif backbone is not None:
        raise WeightsError(f"{backbone}: the backbone is released too; --backbone is for --parts without it")
    with files.metadata_of(source):
        _training_rows(info)  # before anything is written
    files.save(out, kept, model=model, info=info, half=True)
    files.write_atomically(card_file, card(out, model, info).encode())
    return info


def card(path: Path, model: str, info: dict[str, Any]) -> str:
    """The model card of a released file in Markdown. info: of `release`."""
    rows = {
        "model": f"`{model}`",
        "parts": ", ".join(info["parts"]),
        "parameters": f"{info['parameters']:,}",
        "file": f"`{path.name}`, {path.stat().st_size:,} bytes, kernels in half precision",
        "sha256": f"`{files.sha256(path)}`",
        **_training_rows(info),
        "license": info["license"],
    }
    lines = [_card_title(path), "|---|---|", *(f"| {name} | {value} |" for name, value in rows.items())]
    if "backbone" not in info["parts"]:
        lines += ["", "## Backbone", "", *_backbone_lines(path, model, info["backbone"])]
    recorded = "The whole configuration is in the file: `trackers.weights.files.read_metadata`."
    command = ["```", info["command"], "```", ""] if info["command"] else []
    lines += ["", "## Training", "", *command, recorded]
    for title, entries in (("Measured", info["measured"]), ("Notes", info["notes"])):
        if entries:
            lines += ["", f"## {title}", "", *(f"- {entry}" for entry in entries)]
    return "\n".join(lines) + "\n"


def _card_title(path: Path) -> str:
    """How the card of a released file begins."""
    return f"# {path.stem}\n\n| | |"


def _training_rows(info: dict[str, Any]) -> dict[str, Any]:
    config = info["config"]
    datasets = [f"{one['name']} ({one['split']}, weight {one['probability']:g})" for one in config["datasets"]]
    return {
        "training data": ", ".join(datasets),
        "steps": f"{info['steps']:,} of {config['loader']['batch_size']} samples each",
        "seed": config["loop"]["seed"],
        "versions": ", ".join(f"{name} {version}" for name, version in info["versions"].items()),
    }


def _backbone_lines(path: Path, model: str, backbone: dict[str, Any]) -> list[str]:
    origin = f", from `{backbone['source']}` (sha256 `{backbone['source_sha256']}`)" if "source" in backbone else ""
    tracker = next((name for name in trackers.names() if trackers.get(name).model == model), None)
    of = f"--tracker {tracker}" if tracker else f"--model {model}"
    return [
        f"Not in this file. The parts belong to one whose tensors have the sha256 `{backbone['sha256']}`{origin}.",
        "To join both (another backbone is refused):",
        "",
        "```",
        f"python -m eval.convert BACKBONE {model}.safetensors {of} --heads {path.name}",
        "```",
    ]


def _origin(source: Path, model: str, trained: Params, backbone: Path) -> dict[str, str]:
    """Name and digest of what `backbone` was converted from; WeightsError unless it is the run's own, bit for bit."""
    given = sources.parts(backbone, model)["backbone"]
    if files.digests(given) != files.digests(trained):
        raise WeightsError(f"{backbone}: not the backbone of {source}, or it was trained there")
    info = files.read_metadata(backbone)["info"] if sources.is_ours(backbone) else {}
    named = {"source": backbone.name, "source_sha256": files.sha256(backbone)}
    return {name: info.get(name, value) for name, value in named.items()}


@reports(WeightsError, ResultError)
def main(arguments: list[str] | None = None) -> None:
    """Write the file and its card; the exit status."""
    args = parsers.release().parse_args(arguments)
    info = release(
        args.source,
        args.out,
        args.parts,
        args.backbone,
        command=args.command,
        measured=args.measured,
        notes=args.note,
    )
    print(f"{args.out}: {', '.join(info['parts'])}, {info['parameters']:,} parameters")
    print(f"card: {args.out.with_suffix('.md')}")
    print(f"sha256 {files.sha256(args.out)}")


if __name__ == "__main__":
    sys.exit(main())
