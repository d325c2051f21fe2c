"""Which result belongs to which sequence, although toolkits write the names of sequences in ways of their own."""

import re
from collections.abc import Iterable

from eval.sources.layouts import OTB_TARGETS

_PREFIXES = ("uav_", "nfs_", "tpl_")  # pytracking's for UAV123, NFS and TColor-128
# Toolkits name a folder's only target by its folder alone.
_ALONE = {name: f"{name}-{targets[0]}" for name, targets in OTB_TARGETS.items() if len(targets) == 1}


def match(results: Iterable[str], sequences: Iterable[str]) -> tuple[dict[str, str], list[str], list[str]]:
    """Sequence -> its result; results that belong to no sequence; and a line for names that several could mean.

    Names are compared without case, over `-`, `_`, `.` and blanks, and without pytracking's prefixes: Jogging_1 and
    Jogging.1 are Jogging-1, uav_bike1 is bike1, carScale is CarScale. What is exactly equal belongs together, unless
    another result means the same sequence: then none of them is taken.
    """
    named, meant = _grouped(sequences), _grouped(results)
    for name, whole in _ALONE.items():
        if _key(name) not in named:
            meant.setdefault(_key(whole), []).extend(meant.pop(_key(name), ()))
    found, unknown, doubtful = {}, [], []
    for key, some in meant.items():
        candidates = named.get(key, [])
        exact = [name for name in some if name in candidates]
        others = [name for name in some if name not in exact]
        open_ones = [name for name in candidates if name not in exact]
        if not candidates:
            unknown += others
        elif len(others) > len(open_ones) or (len(open_ones) > 1 and others):
            doubtful.append(f"{', '.join(some)}: could each be {' or '.join(candidates)}; rename them or take one away")
        else:
            found |= {name: name for name in exact} | dict(zip(open_ones, others))
    return found, unknown, doubtful


def _grouped(names: Iterable[str]) -> dict[str, list[str]]:
    groups: dict[str, list[str]] = {}
    for name in names:
        groups.setdefault(_key(name), []).append(name)
    return groups


def _key(name: str) -> str:
    plain = re.sub(r"[-_. ]", "_", name.casefold())
    return next((plain.removeprefix(prefix) for prefix in _PREFIXES if plain.startswith(prefix)), plain)
