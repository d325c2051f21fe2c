"""Print what completes `jaxtrack` in a shell: its commands, their options, files, and names of trackers.

    python -m eval.completion bash > ~/.local/share/bash-completion/completions/jaxtrack
"""

import argparse
import sys
from collections.abc import Iterable
from pathlib import Path

import shtab

import trackers
from eval import command, parsers, programs
from eval.programs import NAME, PROGRAMS, Program

_TRACKERS = {"bash": "_jaxtrack_trackers", "zsh": "_jaxtrack_trackers", "tcsh": "`echo {}`"}


def script(shell: str) -> str:
    """The completion of `jaxtrack` for a shell of `shtab.SUPPORTED_SHELLS`."""
    names = " ".join(trackers.names())
    listed = "_jaxtrack_trackers() {\n  %s\n}"
    preamble = {
        "bash": listed % f'compgen -W "{names}" -- "$1"',
        "zsh": listed % f"compadd -- {names}",
    }
    root = argparse.ArgumentParser(NAME, add_help=False)
    root.add_argument("-h", "--help", action="store_true", help="list the commands")
    root.add_argument("--version", action="store_true", help="which version this is")
    _add(root, PROGRAMS, names)
    return shtab.complete(root, shell, preamble=preamble)


def _add(parser: argparse.ArgumentParser, chosen: Iterable[Program], names: str) -> None:
    """The programs as commands of the parser, by their first word, and below it by their second."""
    commands = parser.add_subparsers()
    chosen = list(chosen)
    for first in dict.fromkeys(program.words.partition(" ")[0] for program in chosen):
        own = [program for program in chosen if program.words == first]
        below = [program for program in chosen if program.words.startswith(f"{first} ")]
        described = [_described(own[0], names)] if own else []
        part = commands.add_parser(
            first, help=own[0].summary if own else f"{len(below)} commands", parents=described, add_help=not described
        )
        if below:
            _add(part, [program._replace(words=program.words.partition(" ")[2]) for program in below], names)


def _described(program: Program, names: str) -> argparse.ArgumentParser:
    """Its parser, with what completes its values."""
    parser = programs.parser(program.module)
    _complete_values(parser, names)
    return parser


def _complete_values(parser: argparse.ArgumentParser, names: str) -> None:
    """Says of options whose values are files or trackers that they are."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for part in action.choices.values():
                _complete_values(part, names)
        elif action.dest in ("tracker", "beside"):
            action.complete = {shell: call.format(names) for shell, call in _TRACKERS.items()}
        elif action.type is Path or action.dest in ("place", "video", "results"):
            action.complete = shtab.DIRECTORY if action.dest.endswith("_dir") else shtab.FILE


@command.reports(ValueError, OSError)
def main(argv: list[str] | None = None) -> None:
    arguments = parsers.completion().parse_args(argv)
    print(script(arguments.shell))


if __name__ == "__main__":
    sys.exit(main())
