"""The commands of the project."""

import re

from tests.helpers import places


def commands() -> list[str]:
    """The modules of `eval` and `train` that a user calls with `python -m`."""
    found = []
    for folder in ("eval", "train"):
        for path in (places.REPOSITORY / folder).rglob("*.py"):
            if re.search('^if __name__ == "__main__":', path.read_text(), re.MULTILINE):
                parts = path.relative_to(places.REPOSITORY).with_suffix("").parts
                found.append(".".join(parts).removesuffix(".__main__"))
    started = {"eval.running.guest_main", "eval.benchmark.build_worker"}  # by eval.running.guest, eval.benchmark.builds
    return sorted(set(found) - {"eval"} - started)  # `jaxtrack`
