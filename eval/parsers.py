"""What each command takes: a function for each, named as its module (`benchmark_flags`: of `eval.benchmark.flags`).

Nothing here imports jax or matplotlib, which take seconds: `--help` is answered, and a mistaken option named, before a
command's own module is imported (`eval.programs.parser`).
"""

import argparse
import sys
from functools import partial
from pathlib import Path

from eval import annotations
from eval.command import (
    Parser,
    add_benchmark,
    add_sequences,
    add_tracker_changes,
    make_parser,
    named_path,
    names,
    whole_number,
    whole_numbers,
)
from eval.running import PROTOCOLS
from eval.scoring import ope
from eval.scoring.formats import FORMATS, SERVERS
from eval.sources.backbones import BACKBONES

DEFAULT_TRACKER = "dimp_tiny"  # its weights come with the package
LOOPBACK = ("127.0.0.1", "localhost", "::1")  # hosts of eval.web that only this machine reaches
RELEASED = "released"  # --heads of eval.convert: those that come with the package
PLATFORMS = ("cpu", "cuda", "tpu")  # of eval.export
ANY = "any"  # number of targets of an export
DTYPES = ("float32", "bfloat16")  # of a backbone

# Names in modules that import jax; a test compares them
PROJECTS = ("dasiamrpn", "memtrack", "pysot", "pytracking", "siamfc-pytorch", "torchvision")  # of the peers
SEARCHES = ("random", "halving", "optuna")  # of eval.tune.search


class _TrackParser(Parser):
    """VIDEO may follow options, and some options need others."""

    def parse_args(self, args=None, namespace=None):
        arguments = self.parse_intermixed_args(args, namespace)
        if None not in (arguments.place, arguments.video):
            self.error(f"two videos: {arguments.place} and --video {arguments.video}; give one")
        arguments.video = arguments.place if arguments.video is None else arguments.video
        chosen = arguments.box or arguments.target or arguments.boxes
        if arguments.video is None and (chosen or arguments.start or arguments.reverse):
            self.error("--box, --target, --boxes, --start and --reverse need a video")
        if arguments.video is not None and not (chosen or arguments.show):
            self.error("give the target with --box x,y,w,h, or --show to draw it")
        if arguments.out_dir is None:
            arguments.out_dir = Path("." if arguments.video is not None else "demo")
        return arguments


def track() -> Parser:
    parser = make_parser(
        "eval.track",
        "python -m eval.track clip.mp4 --box 120,80,40,60 --out tracked.webm",
        "python -m eval.track 0 --show",
        details="Without a video: a demo.",
        kind=_TrackParser,
    )
    parser.usage = f"{parser.prog} [VIDEO] [--box X,Y,W,H] [options]"
    add = parser.add_argument
    add("--tracker", default=DEFAULT_TRACKER, help="name, or MODULE:ATTRIBUTE of your own (default: %(default)s)")
    add_tracker_changes(parser)
    add("place", nargs="?", metavar="VIDEO", help="a file, a folder of images, a camera's number or an address")
    add("--video", metavar="VIDEO", help="the same by name")
    add("--box", type=_box, action="append", metavar="X,Y,W,H", help="a target, 0-based pixels; repeatable")
    add(
        "--target",
        type=_target,
        action="append",
        default=[],
        metavar="NAME=X,Y,W,H[@N]",
        help="a named target, from frame N on; repeatable, also at another N",
    )
    add(
        "--start",
        type=whole_number(0),
        default=0,
        metavar="N",
        help="frame the boxes without @N are given on (default: 0)",
    )
    add("--boxes", type=Path, action="append", default=[], metavar="FILE", help="boxes that targets start with")
    formats = ", ".join(annotations.FORMATS)
    add("--to", choices=annotations.FORMATS, action="append", default=[], metavar="FORMAT", help=f"also as {formats}")
    add("--reverse", action="store_true", help="track from there back to the first frame of the video")
    add("--out", type=Path, metavar="FILE", help="annotated .mp4, .webm or .webp (short); boxes beside it")
    add("--out-dir", type=Path, help="folder of the boxes where --out is absent (default: ., demo: demo)")
    add("--rerun", type=Path, metavar="FILE", help="a recording for the viewer of Rerun, .rrd")
    add("--show", action="store_true", help="a window; without --box, draw the boxes in it")
    add("--seed", type=whole_number(0), default=0, help="of the tracker, and of the demo's clip (default: 0)")
    return parser


def _box(text: str) -> list[float]:
    try:
        values = [float(part) for part in text.split(",")]
    except ValueError:
        values = []
    if len(values) != 4:
        raise argparse.ArgumentTypeError(f"{text!r} is not x,y,w,h (where x is negative write --box=x,y,w,h)")
    return values


def _target(text: str) -> tuple[str, list[float], int | None]:
    """Name, box and, where it is given, frame."""
    name, _, place = text.rpartition("=")
    box, at, frame = place.partition("@")
    if not name.strip() or not name.isprintable() or (at and not frame.isdecimal()):
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=x,y,w,h or NAME=x,y,w,h@FRAME")
    return name.strip(), _box(box), int(frame) if at else None


def web() -> Parser:
    parser = make_parser(
        "eval.web",
        "python -m eval.web clip.mp4 --open",
        "python -m eval.web FOLDER --tracker dimp18_heads=r18.safetensors",
        details="Serves one page: draw a box, track forward and backward, correct, export. The annotation is kept in "
        "VIDEO.annotation.json beside the video. Without a place: a drawn clip. On another machine: "
        "ssh -L 8008:127.0.0.1:8008.",
    )
    add = parser.add_argument
    add("place", nargs="?", type=Path, metavar="VIDEO|FOLDER", help="a video, a folder of images, or one of videos")
    add(
        "--tracker",
        type=named_path,
        action="append",
        default=[],
        metavar="NAME[=WEIGHTS]",
        help="offer this one first; repeatable (default: all that need no file)",
    )
    add("--port", type=whole_number(0), default=8008, help="0: a free one (default: %(default)s)")
    add("--host", default=LOOPBACK[0], help="address to listen on (default: %(default)s, this machine alone)")
    add("--token", help="what a browser must know; needed with another --host")
    add("--open", action="store_true", help="open the page in the browser")
    add("--annotations", type=Path, metavar="DIR", help="folder of the annotations (default: beside the videos)")
    add(
        "--upload-limit",
        type=whole_number(1),
        default=2048,
        metavar="MIB",
        help="of a video that is uploaded to FOLDER (default: %(default)s)",
    )
    return parser


def trackers() -> Parser:
    parser = make_parser(
        "eval.trackers",
        "python -m eval.trackers --json",
        details="AUC: mean over 18 real sequences; frames/s: one target in 480 x 640 on two CPU cores. RESULTS.md has "
        "the commands. Weights: shipped with the package; to convert by `convert` (trackers/README.md says from which "
        "files); none needed. Your own tracker is MODULE:ATTRIBUTE.",
    )
    parser.add_argument("--json", action="store_true", help="print the table as JSON")
    return parser


def convert() -> Parser:
    parser = make_parser(
        "eval.convert",
        "python -m eval.convert resnet18 dimp18.safetensors --tracker dimp18_heads",
        "python -m eval.convert dimp50.pth dimp50.safetensors --tracker dimp50",
        "python -m eval.convert runs/siamfc/weights.safetensors siamfc.pth --to siamfc-pytorch",
        details="""SOURCE is a checkpoint of the tracker's reference implementation, or the public backbone of a tracker
        whose other parts ("heads") come with this package: what it holds decides. --to writes a file of ours for the
        reference implementation, as .pth, .safetensors or .npz. PyTorch is not needed; for a checkpoint of TensorFlow,
        TensorFlow is: pip install 'jaxtrack[tensorflow]'.""",
    )
    parser.add_argument("source", type=Path, help=f"a file, or one of {', '.join(BACKBONES)}")
    parser.add_argument("destination", type=Path, help="file to write: safetensors, or of --to")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--tracker", help="the tracker that the file is for; networks and heads are found from it")
    models_text = "for bare backbones and experts: the networks that the file is for"
    what.add_argument("--model", type=_convertible, metavar="MODEL", help=models_text)
    what.add_argument("--to", metavar="PROJECT", choices=PROJECTS, help=f"one of {', '.join(PROJECTS)}")
    parser.add_argument("--heads", help=f"file of train.release to join, or {RELEASED!r}: the package's own")
    parser.add_argument("--like", type=Path, help="for --to: a checkpoint that has what networks here do not have")
    return parser


def _convertible(text: str) -> str:
    from trackers.nets import models  # imports jax, for those who name a model

    known = [name for name in models.names() if models.get(name).peer or models.get(name).heads]
    if text not in known:
        raise argparse.ArgumentTypeError(f"invalid choice: {text!r} (choose from {', '.join(known)})")
    return text


def export() -> Parser:
    parser = make_parser(
        "eval.export",
        "python -m eval.export --tracker dimp_tiny --out dimp_tiny.stablehlo",
        details="eval/README.md shows how to run the file: with jax, numpy and flatbuffers.",
    )
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--tracker", help="a tracker's name, or MODULE:ATTRIBUTE of your own")
    what.add_argument("--describe", type=Path, metavar="FILE", help="check an exported file and say what is in it")
    add_tracker_changes(parser)
    parser.add_argument("--out", type=Path, help="file to write")
    parser.add_argument(
        "--size", type=_size, default=(480, 640), metavar="HxW", help="largest image it takes (default 480x640)"
    )
    parser.add_argument("--targets", type=_targets, default=1, metavar="N", help="at a time; 'any': not fixed")
    parser.add_argument("--platforms", type=_platforms, default=PLATFORMS, metavar="A,B", help="default: cpu,cuda,tpu")
    parser.add_argument("--benchmark", action="store_true", help="run the file beside the jitted tracker")
    return parser


def _size(text: str) -> tuple[int, int]:
    height, _, width = text.partition("x")
    if not (height.isdecimal() and width.isdecimal() and int(height) and int(width)):
        raise argparse.ArgumentTypeError(f"{text!r} is not HEIGHTxWIDTH")
    return int(height), int(width)


def _targets(text: str) -> int | str:
    if text != ANY and not (text.isdecimal() and int(text)):
        raise argparse.ArgumentTypeError(f"{text!r} is neither a number of targets nor {ANY!r}")
    return text if text == ANY else int(text)


def _platforms(text: str) -> tuple[str, ...]:
    names = tuple(text.split(","))
    if not set(names) <= {*PLATFORMS, "rocm"}:
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of {', '.join((*PLATFORMS, 'rocm'))}")
    return names


def completion() -> Parser:
    import shtab  # slow, and for this one only

    parser = make_parser(
        "eval.completion",
        "python -m eval.completion bash > ~/.local/share/bash-completion/completions/jaxtrack",
        "python -m eval.completion zsh > ~/.zfunc/_jaxtrack",
        details="A new shell reads it there; zsh needs the folder in its fpath.",
    )
    parser.add_argument("shell", choices=shtab.SUPPORTED_SHELLS)
    return parser


def run() -> Parser:
    parser = make_parser(
        "eval.run",
        "python -m eval.run --tracker dimp_tiny --data-dir SEQUENCES --out results --workers 2",
    )
    who = parser.add_mutually_exclusive_group(required=True)
    who.add_argument("--tracker", help="a tracker's name, or MODULE:ATTRIBUTE of your own")
    who.add_argument("--guest", metavar="NAME", help="csrt, kcf or mil of OpenCV, or MODULE:CALLABLE")
    parser.add_argument(
        "--guest-python", type=Path, default=sys.executable, metavar="PATH", help="guest's interpreter (default: this)"
    )
    parser.add_argument(
        "--guest-color", choices=("bgr", "rgb"), default="bgr", metavar="ORDER", help="bgr or rgb (default: bgr)"
    )
    parser.add_argument(
        "--guest-timeout",
        type=whole_number(1),
        default=60,
        metavar="S",
        help="seconds to start, and per frame (default: 60)",
    )
    add_benchmark(parser)
    protocols = ("ope", *PROTOCOLS)
    listed = f"{', '.join(protocols)} (default: ope, one pass)"
    parser.add_argument("--protocol", choices=protocols, default="ope", metavar="NAME", help=listed)
    parser.add_argument(
        "--jitter",
        type=_jitter,
        default=0.0,
        metavar="SHARE",
        help="change the first boxes by up to this share of their sides",
    )
    parser.add_argument("--workers", type=whole_number(1), default=1, metavar="N", help="sequences side by side")
    parser.add_argument(
        "--batch",
        type=whole_number(1),
        default=1,
        metavar="N",
        help="sequences in one call (pays on an accelerator)",
    )
    parser.add_argument(
        "--shard",
        type=_shard,
        default=(0, 1),
        metavar="I/N",
        help="every N-th sequence from the I-th (0..N-1)",
    )
    parser.add_argument(
        "--distributed",
        action="store_true",
        help="one of several processes (Slurm, TPU pod): its shard",
    )
    return parser


def _jitter(text: str) -> float:
    if not 0 <= float(text) <= 0.5:
        raise argparse.ArgumentTypeError(f"{text} is not in 0..0.5")
    return float(text)


def _shard(text: str) -> tuple[int, int]:
    index, _, count = text.partition("/")
    if not (index.isdecimal() and count.isdecimal() and int(index) < int(count)):
        raise argparse.ArgumentTypeError(f"{text!r} is not I/N with 0 <= I < N")
    return int(index), int(count)


def report() -> Parser:
    parser = make_parser(
        "eval.report",
        "python -m eval.report results/* --data-dir SEQUENCES --out report",
    )
    parser.add_argument(
        "results", nargs="+", metavar="[NAME=]RESULTS", help="folders of results, .json files of scores"
    )
    parser.add_argument("--out", type=Path, required=True, help="folder of index.html, *.png, scores.csv, table.tex")
    add_sequences(parser, "the sequences: for curves, other rules and pictures", required=False)
    parser.add_argument(
        "--rule",
        choices=(*ope.TOOLKITS, "vot"),
        default="jaxtrack",
        metavar="RULE",
        help=f"whose rule scores: {', '.join(ope.TOOLKITS)}, vot (default: jaxtrack)",
    )
    parser.add_argument(
        "--origin",
        type=int,
        choices=(0, 1),
        help="what x and y count from in results of other programs (default: as in the files of --dataset)",
    )
    parser.add_argument("--attributes", type=Path, help='.json: {"sequence": ["OCC", "FM"]}')
    parser.add_argument("--title", default="Tracking results")
    return parser


def formats() -> Parser:
    parser = make_parser(
        "eval.formats",
        "python -m eval.formats results/dimp_tiny --to got10k --out submission.zip",
    )
    parser.add_argument("results", type=Path, help="folder, .zip or file, of any format")
    formats = [*FORMATS, *annotations.FORMATS]
    parser.add_argument("--to", required=True, choices=formats, metavar="FORMAT", help=f"one of {', '.join(formats)}")
    parser.add_argument("--out", type=Path, required=True, help=f"folder, or .zip for a server ({', '.join(SERVERS)})")
    add = partial(parser.add_argument, type=int, choices=(0, 1))
    add("--origin", help="what x, y count from in PATH (default: after eval.run, as the benchmark's files; or 0)")
    add("--from-origin", default=0, help="what x, y count from in RESULTS (default: 0)")
    return parser


def tune() -> Parser:
    parser = make_parser(
        "eval.tune",
        "python -m eval.tune --tracker siamfc --data-dir SEQUENCES --out tuning --range window_influence=0.05:0.6",
        details="The same command resumes. Never tune on sequences that the result is reported on.",
    )
    parser.add_argument("--tracker", required=True, help="a tracker's name, or MODULE:ATTRIBUTE of your own")
    add_benchmark(parser)
    parser.add_argument(
        "--range",
        action="append",
        default=[],
        metavar="FIELD=LOW:HIGH[:log]",
        help="of a float; default: those of the tracker's family",
    )
    searches = f"one of {', '.join(SEARCHES)} (default: random)"
    parser.add_argument("--search", choices=SEARCHES, default="random", metavar="NAME", help=searches)
    parser.add_argument("--trials", type=whole_number(1), default=32, metavar="N", help="settings tried (32)")
    parser.add_argument("--folds", type=int, default=5, metavar="N", help="of the cross-validation (5)")
    parser.add_argument("--batch", type=whole_number(1), default=8, metavar="N", help="settings in one call (8)")
    parser.add_argument("--frames", type=whole_number(2), metavar="N", help="only the first N frames of each sequence")
    parser.add_argument("--benchmark", action="store_true", help="measure settings per minute and write benchmark.json")
    return parser


def toolkits_vot() -> Parser:
    parser = make_parser(
        "eval.toolkits.vot",
        "python -m eval.toolkits.vot --tracker dimp_tiny --ini >> WORKSPACE/trackers.ini",
    )
    parser.add_argument("--tracker", required=True, help="a tracker's name, or MODULE:ATTRIBUTE of your own")
    add_tracker_changes(parser)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--ini", action="store_true", help="only print the entry for the toolkit's trackers.ini")
    parser.add_argument("--name", help="of the entry (default: the tracker's)")
    return parser


def _add_files(parser: argparse.ArgumentParser) -> None:
    """--json and --markdown, which `eval.benchmark.reporting.write` reads."""
    parser.add_argument("--json", type=Path, help="write all figures to this file")
    parser.add_argument("--markdown", type=Path, help="write the table to this file")


def _add_options(parser: argparse.ArgumentParser) -> None:
    """--device, --json, --markdown, --plot and --compare."""
    parser.add_argument("--device", help="cpu, gpu or tpu (default: JAX's own choice)")
    _add_files(parser)
    parser.add_argument("--plot", type=Path, help="draw the roofline into this PNG")
    parser.add_argument(
        "--compare", type=Path, nargs=2, metavar=("A.json", "B.json"), help="only compare two reports, row by row"
    )


def _add_size(parser: argparse.ArgumentParser, height: int = 480, width: int = 640) -> None:
    """--height and --width of the frames."""
    parser.add_argument("--height", type=whole_number(1), default=height)
    parser.add_argument("--width", type=whole_number(1), default=width)


def _add_calls(parser: argparse.ArgumentParser, what: str, batches: list[int], repeats: int, seconds: float) -> None:
    """--batches, numbers of `what` in one call, and how often a row is called; the arguments are the defaults."""
    _add_files(parser)
    listed = ",".join(map(str, batches))
    parser.add_argument("--batches", type=whole_numbers, default=batches, help=f"{what} in one call (default {listed})")
    parser.add_argument("--repeats", type=whole_number(1), default=repeats, help=f"timed calls (default {repeats})")
    parser.add_argument(
        "--seconds", type=float, default=seconds, help=f"stop the calls of a row after this (default {seconds:g})"
    )


def benchmark() -> Parser:
    parser = make_parser(
        "eval.benchmark",
        "python -m eval.benchmark --tracker dimp18 --targets 1,4,16 --json dimp18.json",
    )
    parser.add_argument("--tracker", default="dimp18", metavar="NAME", help="name, or MODULE:ATTRIBUTE")
    parser.add_argument("--beside", metavar="NAME", help="time a frame of this tracker too (same networks)")
    parser.add_argument("--beside-build", type=Path, metavar="DIR", help="only compare with another checkout, in turns")
    parser.add_argument("--dtype", choices=DTYPES, default="float32", help="a row for the backbone in it (float32)")
    parser.add_argument("--torch", action="store_true", help="beside the same in PyTorch, on a CPU")
    parser.add_argument("--weights", help="weight file; random weights without")
    _add_options(parser)
    parser.add_argument("--repeats", type=whole_number(1), default=30, help="timed frames (default 30)")
    _add_size(parser)
    parser.add_argument("--no-restart", action="store_true", help="leave out the time of a second start")
    parser.add_argument("--first-box", action="store_true", help="only track one frame (used for the second start)")
    parser.add_argument(
        "--targets",
        type=whole_numbers,
        default=[1, 4, 16],
        help="numbers of targets (default 1,4,16)",
    )
    return parser


def benchmark_operators() -> Parser:
    parser = make_parser(
        "eval.benchmark.operators",
        "python -m eval.benchmark.operators --only correlation,PrRoI --json operators.json",
    )
    _add_options(parser)
    parser.add_argument("--dtype", choices=DTYPES, default="float32", help="of all but the solvers (default float32)")
    parser.add_argument("--only", type=names, default=[], metavar="A,B", help="parts of names")
    parser.add_argument("--repeats", type=whole_number(1), default=20, help="rounds (default 20)")
    return parser


def benchmark_batches() -> Parser:
    parser = make_parser(
        "eval.benchmark.batches",
        "python -m eval.benchmark.batches --tracker dimp_tiny --batches 2,4,8 --json batches.json",
    )
    parser.add_argument("--tracker", default="dimp_tiny", help="name, or MODULE:ATTRIBUTE")
    parser.add_argument("--weights", type=Path, help="weight file; default: the tracker's own")
    add_sequences(parser, "sequences to track (default: clips are drawn)", required=False)
    parser.add_argument("--clips", type=whole_number(1), default=8, help="that are drawn (default 8)")
    parser.add_argument("--frames", type=whole_number(1), default=60, help="of a clip, on average (default 60)")
    _add_size(parser, 240, 320)
    parser.add_argument("--rounds", type=whole_number(1), default=3, help="timed passes of each way (default 3)")
    parser.add_argument("--workers", type=whole_numbers, default=[2], help="threads (default 2)")
    parser.add_argument(
        "--batches", type=whole_numbers, default=[2, 4, 8], help="sequences in one call (default 2,4,8)"
    )
    _add_files(parser)
    return parser


def benchmark_convolution() -> Parser:
    parser = make_parser(
        "eval.benchmark.convolution",
        "python -m eval.benchmark.convolution --batches 1,8 --json convolution.json",
    )
    _add_calls(parser, "images", [1, 8], repeats=10, seconds=3.0)
    return parser


def benchmark_flags() -> Parser:
    parser = make_parser(
        "eval.benchmark.flags", "python -m eval.benchmark.flags --trackers dimp_tiny,siamfc --json flags.json"
    )
    default = ["dimp_tiny", "atom_multiscale", "dimp18", "siamfc"]
    parser.add_argument("--trackers", type=names, default=default, metavar="A,B", help=f"default: {','.join(default)}")
    parser.add_argument("--repeats", type=whole_number(1), default=30, help="timed frames (default 30)")
    _add_size(parser)
    _add_files(parser)
    return parser


def benchmark_correlation() -> Parser:
    parser = make_parser(
        "eval.benchmark.correlation",
        "python -m eval.benchmark.correlation --batches 1,8,28 --json correlation.json",
    )
    _add_calls(parser, "pairs", [1, 8, 28], repeats=20, seconds=2.0)
    parser.add_argument("--channels", type=whole_number(1), default=256, help="of the features (default 256)")
    return parser


def benchmark_annotator() -> Parser:
    parser = make_parser("eval.benchmark.annotator", "python -m eval.benchmark.annotator --json annotator.json")
    parser.add_argument("--tracker", default="dimp_tiny", help="name, or MODULE:ATTRIBUTE")
    parser.add_argument("--long", type=whole_number(2), default=10_000, help="frames to seek in (default 10000)")
    parser.add_argument("--seeks", type=whole_number(1), default=60, help="jumps (default 60)")
    parser.add_argument("--frames", type=whole_number(2), default=600, help="frames to track (default 600)")
    parser.add_argument("--rounds", type=whole_number(1), default=5, help="runs of each way (default 5)")
    _add_size(parser)
    _add_files(parser)
    return parser


def claims_siamese() -> Parser:
    parser = make_parser(
        "eval.claims.siamese",
        "python -m eval.claims.siamese heads --out heads.json",
    )
    commands = parser.add_subparsers(dest="command", required=True)
    bias, each, heads = (
        commands.add_parser(name, help=text)
        for name, text in {
            "center-bias": "mean response of networks trained with different shifts",
            "levels": "scores of every level of features alone and of all",
            "heads": "parameters and time of the up-channel and of the depthwise head",
        }.items()
    )
    for part in (bias, each):
        part.add_argument("--tracker", default="siamrpnpp_mobilenetv2_1.0", help="of the SiamRPN family")
        add_sequences(part)
    bias.add_argument("--weights", action="append", required=True, metavar="NAME=FILE", help="may be given many times")
    bias.add_argument("--frames", type=whole_number(1), default=4, help="of every sequence (default 4)")
    bias.add_argument("--places", type=whole_number(1), default=16, help="of the target, per frame (16)")
    each.add_argument("--weights", type=Path, help="default: the tracker's own")
    each.add_argument("--track", action="store_true", help="also track the sequences with every level alone")
    for part, kind in ((bias, "PNG"), (each, "PNG"), (heads, "JSON")):
        part.add_argument("--out", type=Path, required=True, help=f"the {kind} to be written")
    return parser


def claims_memory() -> Parser:
    parser = make_parser(
        "eval.claims.memory",
        "python -m eval.claims.memory --data-dir SEQUENCES --sequence NAME --out memory.png",
        details="Without a sequence a clip is drawn in which the target passes behind something.",
    )
    add_tracker_changes(parser)
    parser.add_argument("--out", type=Path, default=Path("memory.png"), help="PNG to write (default: memory.png)")
    parser.add_argument("--data-dir", type=Path, help="folder of sequences (layout `folder`)")
    parser.add_argument("--sequence", help="one of them")
    parser.add_argument("--frames", type=int, default=120, help="at most, from the first one on (default: 120)")
    parser.add_argument("--seed", type=int, default=0, help="of the drawn clip")
    return parser


def claims_effort() -> Parser:
    parser = make_parser(
        "eval.claims.effort",
        "python -m eval.claims.effort --out effort.json",
        details="A simulated annotator draws the true box where IoU is least, until it is above 0.7 everywhere.",
    )
    default = DEFAULT_TRACKER
    parser.add_argument("--tracker", default=default, help="name, or MODULE:ATTRIBUTE (default: %(default)s)")
    add_tracker_changes(parser)
    parser.add_argument("--clips", type=whole_number(1), default=5, help="that are drawn (default: 5)")
    parser.add_argument("--frames", type=whole_number(2), default=120, help="of a clip (default: 120)")
    parser.add_argument("--hard", action="store_true", help="targets that deform, turn, leave and come back")
    parser.add_argument("--seed", type=whole_number(0), default=0, help="of the first clip (default: 0)")
    parser.add_argument("--out", type=Path, required=True, help="the JSON to be written")
    return parser
