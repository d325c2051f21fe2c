"""What each command takes: as `eval.parsers`."""

import argparse
from functools import partial
from pathlib import Path

from eval.command import Parser, add_tracker_changes, make_parser, whole_number
from eval.sources import layouts

# Of train.datasets, whose import takes seconds; a test compares them
SYNTHETIC = "synthetic_tracking"
LAYOUTS = (*layouts.LAYOUTS, "voc", "csv", "coco")


def _training(name: str) -> Parser:
    """Of `python -m train.NAME`, which trains."""
    example = f"python -m train.{name} --config train/configs/{name}_smoke.py --out runs/smoke"
    parser = make_parser(f"train.{name}", example, details="The settings are a file of train/configs.")
    parser.add_argument("--config", type=Path, required=True, help="Python file with get_config(), see train/configs")
    parser.add_argument("--out", type=Path, help="folder of the run (default: runs/<name of the config>)")
    parser.add_argument("--data-dir", type=Path, default=Path("data"), help="folder of `python -m train.datasets`")
    parser.add_argument("--weights", type=Path, help="to start from: of the same model, or a backbone alone; any form")
    parser.add_argument("--set", action="append", default=[], metavar="FIELD=VALUE", help="loop.steps=100, ...")
    parser.add_argument("--distributed", action="store_true", help="one of several processes (TPU pod, Slurm)")
    return parser


dimp = partial(_training, "dimp")
atom = partial(_training, "atom")
siamfc = partial(_training, "siamfc")
siamrpn = partial(_training, "siamrpn")
memtrack = partial(_training, "memtrack")
distill = partial(_training, "distill")


def datasets() -> Parser:
    parser = make_parser(
        "train.datasets",
        "python -m train.datasets got10k --source GOT-10k --data-dir data",
        details="Writes one record per frame, and a table of the boxes. "
        f"NAME without --source says which files it reads; {SYNTHETIC} draws its clips.",
    )
    names = (*LAYOUTS, SYNTHETIC)
    parser.add_argument("name", choices=names, metavar="NAME", help=f"layout of the files: {', '.join(names)}")
    parser.add_argument("--source", type=Path, metavar="DIR", help="folder of the benchmark, or of one's own sequences")
    parser.add_argument("--data-dir", type=Path, required=True, metavar="OUT", help="folder of prepared data sets")
    parser.add_argument("--split", default="train", help="name of the part (default: train)")
    parser.add_argument("--list", type=Path, metavar="FILE", help="sequences to take, a name or place from 0 a line")
    parser.add_argument(
        "--unlike", type=Path, metavar="DIR", help="leave out sequences with a frame like an image there"
    )
    parser.add_argument("--decode", action="store_true", help="decode every image first (folder: always done)")
    parser.add_argument("--skip-faulty", action="store_true", help="leave out sequences with a fault")
    parser.add_argument("--overwrite", action="store_true", help="build it again if it is there")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="FIELD=VALUE",
        help=f"of {SYNTHETIC}: num_clips=100, seed=1, quality=95, clip.num_frames=60, clip.distractors=3, ...",
    )
    return parser


def pseudo_labels() -> Parser:
    parser = make_parser(
        "train.pseudo_labels",
        "python -m train.pseudo_labels --source CLIPS --weights r18.safetensors --out pseudo",
        "python -m train.datasets folder --source pseudo --data-dir data --split pseudo",
        details="What moves is tracked forward and back, and kept where both passes agree.",
    )
    parser.add_argument("--source", type=Path, required=True, metavar="CLIPS", help="folder of clips: NAME/img/*.jpg")
    parser.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="sequences of the layout `folder`")
    named = "name, or MODULE:ATTRIBUTE (default: %(default)s)"
    parser.add_argument("--tracker", default="atom_multiscale", help=named)
    add_tracker_changes(parser)
    for name, value, text in (
        ("per-clip", 4, "targets to try in a clip"),
        ("segment", 24, "frames to follow a target at most"),
        ("least", 5, "frames in a row that must survive"),
    ):
        parser.add_argument(f"--{name}", type=whole_number(1), default=value, metavar="N", help=f"{text} ({value})")
    parser.add_argument("--agree", type=float, default=0.7, help="IoU above which passes agree (%(default)s)")
    parser.add_argument("--seed", type=whole_number(0), default=0, help="of the tracker (%(default)s)")
    return parser


def curves() -> Parser:
    parser = make_parser("train.curves", "python -m train.curves runs/dimp_tiny runs/dimp18_heads --out curves.png")
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN", help="folder of a run, or its log.jsonl")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE.png", help="the figure")
    return parser


def benchmark() -> Parser:
    example = "python -m train.benchmark step --config train/configs/siamfc_smoke.py --json step.json"
    parser = make_parser("train.benchmark", example)
    commands = parser.add_subparsers(dest="command", required=True)
    count = whole_number(1)

    of_step = commands.add_parser("step", help="the loader, the training step and the loop of a config")
    smoke = Path(__file__).parent / "configs" / "dimp_smoke.py"
    of_step.add_argument("--config", type=Path, default=smoke, help="see train/configs (default: dimp_smoke.py)")
    of_step.add_argument("--data-dir", type=Path, default=Path("data"), help="folder of `python -m train.datasets`")
    of_step.add_argument("--set", action="append", default=[], metavar="FIELD=VALUE", help="loader.batch_size=2, ...")
    # What is not given is not in the namespace: the defaults are those of the StepOptions and so on
    add = partial(of_step.add_argument, type=count, default=argparse.SUPPRESS)
    add("--steps", help="timed, of the training loop")
    add("--repeats", help="timed calls of each program")
    add("--samples", help="loaded on one core")
    add("--filter-steps", nargs="+", metavar="N", help="of DiMP's optimizer, where its unrolling is compared")

    of_optimizer = commands.add_parser("optimizer", help="the gradient through DiMP's optimizer alone")
    add = partial(of_optimizer.add_argument, type=count, default=argparse.SUPPRESS)
    for name in ("channels", "size", "samples", "test-frames", "steps", "repeats"):
        add(f"--{name}", **({"nargs": "+"} if name == "steps" else {}))

    of_clip = commands.add_parser("clip", help="memory of MemTrack's gradient by the length of the clip")
    add = partial(of_clip.add_argument, type=count, default=argparse.SUPPRESS)
    for name in ("lengths", "template-size", "search-size", "clips", "chunk"):
        add(f"--{name}", **({"nargs": "+"} if name == "lengths" else {}))

    for command in (of_step, of_optimizer, of_clip):
        command.add_argument("--json", type=Path, help="also write the result to this file")
    return parser


def release() -> Parser:
    parser = make_parser(
        "train.release",
        "python -m train.release runs/dimp18_heads --out dimp18_heads.safetensors --parts classifier iou_net "
        '--backbone r18.safetensors --measured "AUC 0.61 on ..."',
    )
    parser.add_argument("source", type=Path, help="weights.safetensors of a run, or the run's folder")
    parser.add_argument("--out", type=Path, required=True, help="safetensors file to write; the card goes beside it")
    parser.add_argument("--parts", nargs="+", metavar="PART", help="e.g. classifier iou_net (default: all)")
    parser.add_argument("--backbone", type=Path, help="the frozen backbone's file, to be checked and named in the card")
    parser.add_argument("--command", default="", help="the command that trained the weights, for the card")
    parser.add_argument("--measured", action="append", metavar="TEXT", help="a result, for the card")
    parser.add_argument("--note", action="append", metavar="TEXT", help="e.g. what it was not trained on, for the card")
    return parser
