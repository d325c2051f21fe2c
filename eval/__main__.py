"""The command `jaxtrack`, also `python -m eval`: lists the commands, and runs one."""

import difflib
import platform
import sys
from collections.abc import Iterable

from eval import programs
from eval.programs import GROUPS, INTERRUPTED, NAME, PROGRAMS, Program

HELP = ("-h", "--help")
WRONG = 2  # exit status, as of options that cannot be parsed


def main(argv: list[str] | None = None) -> int:
    """Run the command that the arguments begin with, or list those that there are; the exit status."""
    by, arguments = programs.called_by() or NAME, sys.argv[1:] if argv is None else argv
    if not arguments or arguments[0] in HELP:
        print(listing(by))
        return 0
    if arguments[0] == "--version":
        print(f"{NAME} {version()} (Python {platform.python_version()})")
        return 0
    first, second = (*arguments, "")[:2]
    several = [program for program in PROGRAMS if program.words.startswith(f"{first} ")]
    name = f"{first} {second}" if several and second and not second.startswith("-") else first
    for program in PROGRAMS:
        if program.words == name:
            return run(program, arguments[len(name.split()) :])
    if several and second in ("", *HELP):
        print("\n".join(lines(several)))
        return 0
    alike = difflib.get_close_matches(name, [program.words for program in PROGRAMS])
    meant = f"did you mean {' or '.join(alike)}? " if alike else ""
    print(f"error: no command {name!r}; {meant}{by} --help lists them", file=sys.stderr)
    return WRONG


def run(program: Program, arguments: list[str]) -> int:
    """The program with these arguments, as by `python -m`: with the current folder to import from."""
    try:
        programs.parser(program.module).parse_args(arguments)  # --help and mistakes end here
        module = programs.imported(program)
    except ModuleNotFoundError as error:
        needed = (error.name or "").partition(".")[0]
        if needed in ("ops", "trackers", "eval", "train"):
            raise
        extra = f"'{NAME}[train]'" if program.module.startswith("train.") else needed
        print(f"error: {program.words} needs the package {needed}: pip install {extra}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted; nothing was written", file=sys.stderr)
        return INTERRUPTED
    if not sys.flags.safe_path:
        sys.path.append("")  # last: nothing there hides a package of ours
    return module.main(arguments)


def listing(by: str) -> str:
    """All commands by their groups; those that belong to another one have a line together, after it."""
    text = [f"usage: {by} COMMAND ...  (visual object tracking in JAX)"]
    for heading, group in GROUPS.items():
        text += ["", heading]
        for program in group:
            if any(program.words.startswith(f"{other.words} ") for other in group):
                continue  # it has been named
            text += lines([program], indent=2)
            text += [f"    and {program.words} {', '.join(more)}"] if (more := parts(program)) else []
    return "\n".join([*text, "", f"{by} COMMAND --help explains a command; {by} --version"])


def parts(program: Program) -> list[str]:
    """The second words of the programs that belong to a program."""
    found = (other.words.partition(f"{program.words} ")[2] for other in PROGRAMS)
    return [words for words in found if words]


def lines(group: Iterable[Program], indent: int = 0) -> list[str]:
    """One line for each program."""
    width = max(len(program.words) for program in PROGRAMS)
    return [f"{'':{indent}}{program.words:{width}}  {program.summary}" for program in group]


def version() -> str:
    """Of the installed package."""
    import importlib.metadata  # slow

    try:
        return importlib.metadata.version(NAME)
    except importlib.metadata.PackageNotFoundError:
        return "not installed as a package"


if __name__ == "__main__":
    sys.exit(main())
