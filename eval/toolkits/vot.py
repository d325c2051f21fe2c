"""A tracker of this project for the official VOT toolkit, which starts it and talks TraX with it.

    pip install vot-trax                      # the protocol: all that the tracker's environment needs
    python -m eval.toolkits.vot --tracker dimp_tiny --ini >> WORKSPACE/trackers.ini     # its entry in the registry
    vot evaluate --workspace WORKSPACE dimp_tiny

Rectangles, one object, one color image a frame, as files. Without --ini it waits for the toolkit. Every initialization
starts from the same seed, and compiles all it will need, so that the times of frames hold no compilation. The toolkit
may live in an environment of its own (0.7.4 and 0.9.0 are tried, with attributee 0.1.8, whose 0.1.10 they cannot import
under Python 3.11; whatever the tracker, multi-start experiments fail inside 0.8.1 and 0.9.0, and the stack `supervised`
of 0.9.0 ends in a TrackerException, with exit status 0). Exit status 0 when the toolkit is done, 1 after an error,
which one line names.
"""

import argparse
import configparser
import importlib
import importlib.util
import io
import shlex
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import jax

from eval import command, parsers
from eval.command import prepare_process
from eval.online import OnlineTracker, load_online
from eval.running.entrants import folder_name
from eval.sources.sequences import read_image

TIMEOUT = 300  # seconds the toolkit waits for an answer: the first holds the compilation


class TraxError(ValueError):
    """TraX cannot be spoken; the message is one line with the fix."""


def import_trax() -> ModuleType:
    """The module `trax` of the package vot-trax; TraxError where it is absent or another package of that name.

    Google's package `trax` is recognized by its files, and not run.
    """
    spec = importlib.util.find_spec("trax")
    if spec is None:
        raise TraxError("TraX is not installed; pip install vot-trax")
    place = Path(spec.origin or next(iter(spec.submodule_search_locations or [""]), ""))
    if spec.origin is None or not place.with_name("server.py").is_file():
        raise TraxError(
            f"{place}: another package named trax, not the VOT toolkit's; pip uninstall trax, then pip install vot-trax"
        )
    try:
        return importlib.import_module("trax")
    except OSError as error:
        raise TraxError(f"{place}: its library cannot be loaded ({error}); reinstall vot-trax") from error


def serve(online: OnlineTracker, trax: ModuleType, *, name: str, seed: int = 0) -> None:
    """Answers the toolkit on stdin and stdout, or the socket it names, until it is done; reports box and confidence.

    SequenceError for an image that cannot be read, trax.TraxException where the connection breaks.
    """
    with trax.Server([trax.Region.RECTANGLE], [trax.Image.PATH], ["color"], tracker_name=name) as server:
        while True:
            request = server.wait()
            if request.type not in (trax.TraxStatus.INITIALIZE, trax.TraxStatus.FRAME):
                return
            image = read_image(request.image["color"].path())
            if request.type == trax.TraxStatus.INITIALIZE:
                [(region, _)] = request.objects
                online.warm_up(*image.shape[:2])
                online.init(image, region.bounds(), key=jax.random.key(seed))
            else:
                online.update(image)
            box = trax.Rectangle.create(*online.box)
            server.status([(box, {"confidence": f"{online.confidence:.6f}"})])


def registry_entry(name: str, command: list[str]) -> str:
    """The section of the toolkit's trackers.ini that starts `command`."""
    entry = configparser.ConfigParser(interpolation=None)
    escaped = shlex.join(command).replace("%", "%%")  # the toolkit's reader interpolates
    entry[name] = {"label": name, "protocol": "trax", "command": escaped, "timeout": str(TIMEOUT)}
    text = io.StringIO()
    entry.write(text)
    return text.getvalue()


def parse_arguments(argv: list[str] | None) -> argparse.Namespace:
    return parsers.toolkits_vot().parse_args(argv)


@command.reports(ValueError, OSError, interrupted="the toolkit was not answered")
def main(argv: list[str] | None = None) -> int | None:
    arguments = parse_arguments(argv)
    prepare_process()
    name = arguments.name or folder_name(arguments.tracker)
    online = load_online(arguments.tracker, arguments.weights, arguments.set)
    trax = import_trax()
    if arguments.ini:
        print(registry_entry(name, _command(arguments)), end="")
        return None
    if sys.stdin.isatty():
        raise TraxError("this is started by the VOT toolkit; --ini prints the entry for its trackers.ini")
    try:
        serve(online, trax, name=name, seed=arguments.seed)
    except trax.TraxException as error:
        return command.fail(error)
    return None


def _command(arguments: argparse.Namespace) -> list[str]:
    """What the toolkit has to run; it does so in a folder of its own."""
    options: list[Any] = ["--tracker", arguments.tracker, "--seed", arguments.seed]
    if arguments.weights:
        options += ["--weights", arguments.weights.resolve()]
    for assignment in arguments.set:
        options += ["--set", assignment]
    return [sys.executable, "-m", "eval.toolkits.vot", *map(str, options)]


if __name__ == "__main__":
    sys.exit(main())
