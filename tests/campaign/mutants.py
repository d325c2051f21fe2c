"""Damage: to bytes, text, JSON, what is inside archives, and to the files of a folder. Everything follows from the
generator of random numbers that is given.
"""

import contextlib
import io
import json
import os
import re
import shutil
import struct
import warnings
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

Rng = np.random.Generator

NUMBERS = (
    *("nan", "inf", "-inf", "1e308", "-1e308", "1e999", "1e-320", "-1", "0", "-0.0", "", "1", "2147483648", "1e18"),
    *("99999999999999999999", "0x10", "1_0", "\uff11", "\u00b2", "1,5", "1.", ".", "-", "None", "True", "''", "1j"),
    *("9" * 400, "9" * 5000, "()", "[1]", "{}"),
)
SEPARATORS = (",", ";", "\t", " ", "  ", "\n", "\r", "\r\n", "\x0b", "\x1c", "\u2028", "\x00", "=", ":", ".", "/", "")
DEPTHS = (100, 1000, 100_000)
DEEP = "[deep]"  # stands for nested lists in what is turned into JSON
VALUES = (
    *(None, True, False, 0, -1, 3, 0.5, 1e308, -1e308, float("nan"), float("inf"), 10**30, 10**400, "", "x", "\x00"),
    *("../x", "x" * 3000, "\ud800", [], {}, [[]], [1, 2], [None], {"a": 1}, {"": []}, DEEP),
)
NAMES = (
    *("", "x", "\u00b2", "\uff11\uff12", "-1", "0", "999999999999999999999", "a b", "a,b", "a;b", "a'b", "<b>", "%s"),
    *("{0}", "\t", "\u202e", "con", "_time", ".hidden", "UPPER", "e\u0301", "1" * 200, os.fsdecode(b"\xff\xfe")),
)


def damage_folder(folder: Path, rng: Rng, donors: Sequence[bytes]) -> None:
    """Damages one to three of the files in `folder`, or the tree itself. donors: contents of other kinds."""
    for _ in range(int(rng.choice((1, 1, 1, 1, 2, 3)))):
        found = sorted(path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
        if not found:
            return
        path = found[rng.integers(len(found))]
        if rng.random() < 0.12:
            with contextlib.suppress(OSError, ValueError):  # of names that are too long, taken or empty
                TREE[rng.integers(len(TREE))](path, rng)
        else:
            path.write_bytes(damage(path.read_bytes(), rng, donors))


def damage(content: bytes, rng: Rng, donors: Sequence[bytes] = ()) -> bytes:
    """One mutation of `content`, by what it is: an archive, a file with a header of text, JSON, text or bytes."""
    choice = rng.random()
    if choice < 0.03:
        return b""
    if choice < 0.08 and donors:
        return donors[rng.integers(len(donors))]
    if choice < 0.2:
        return damage_bytes(content, rng)
    for inner in (_inside_zip, _inside_header, _inside_npy, _as_json, _as_text):
        changed = inner(content, rng)
        if changed is not None and changed != content:
            return changed
    return damage_bytes(content, rng)


def damage_bytes(content: bytes, rng: Rng) -> bytes:
    data = bytearray(content)
    at, length = (int(rng.integers(len(data) + 1)) for _ in range(2))
    length = int(min(length, 2 ** rng.integers(0, 12)))
    run = data[at : at + length]
    match rng.integers(9):
        case 0 if data:
            for _ in range(2 ** int(rng.integers(0, 5))):
                data[rng.integers(len(data))] ^= 1 << int(rng.integers(8))
        case 1:
            data[at : at + length] = rng.bytes(len(run))
        case 2:
            data[at : at + length] = bytes([_one_of((0, 255, 127, 128), rng)]) * len(run)
        case 3:
            data[at:at] = rng.bytes(length)
        case 4:
            del data[at : at + length]
        case 5:
            del data[at:]
        case 6:
            data[at:at] = run
        case 7:
            data += data[:at]
        case _:  # a length, a count or an offset
            form, bits = _one_of((("H", 16), ("I", 32), ("Q", 64)), rng)
            value = _one_of((0, 1, 2 ** (bits // 2), 2 ** (bits - 1) - 1, 2 ** (bits - 1), 2**bits - 1), rng)
            data[at : at + bits // 8] = struct.pack(_one_of("<>", rng) + form, value)
    return bytes(data)


def damage_text(text: str, rng: Rng) -> str:
    numbers = list(re.finditer(r"[-+]?\d+\.?\d*(?:[eE][-+]?\d+)?|\bnan\b", text))
    separators = list(re.finditer(r"[\s,;:=<>/]+", text))
    words = list(re.finditer(r"[A-Za-z_]+", text))
    lines = text.splitlines(keepends=True)
    kind = int(rng.choice((0, 0, 0, 0, 1, 1, 2, 3, 4, 5, 6, 7, 8, 9)))
    if kind == 0 and numbers:
        match = numbers[rng.integers(len(numbers))]
        return text[: match.start()] + _one_of(NUMBERS, rng) + text[match.end() :]
    if kind == 1 and separators:
        match = separators[rng.integers(len(separators))]
        return text[: match.start()] + _one_of(SEPARATORS, rng) + text[match.end() :]
    if kind == 2 and lines:
        first = int(rng.integers(len(lines)))
        return "".join(lines[:first] + lines[first + int(rng.integers(1, 4)) :])
    if kind == 3 and lines:
        first, second = rng.integers(len(lines), size=2)
        return "".join([*lines[:first], lines[second] * int(rng.choice((1, 1, 50))), *lines[first:]])
    if kind == 4 and words:
        match = words[rng.integers(len(words))]
        word = _one_of((*NAMES, words[rng.integers(len(words))][0]), rng)
        return text[: match.start()] + word + text[match.end() :]
    if kind == 5:
        return text.replace("\n", _one_of(("\r\n", "\r", "\n\n", " ", "\\n"), rng))
    if kind == 6:
        return _one_of(("\ufeff", "\n", "#", " ", "\x00"), rng) + text
    if kind == 7:
        return text.replace(_one_of((",", "\t", " ", ".", "="), rng), _one_of(SEPARATORS, rng))
    at = int(rng.integers(len(text) + 1))
    if kind == 8:
        opening = _one_of(("[", "(", "{", '{"a":', "-", "<a>", "x", "1"), rng)
        return text[:at] + opening * int(rng.choice(DEPTHS)) + text[at:]
    return text[:at]


def damage_json(content: Any, rng: Rng) -> str:
    """The text of a JSON value with one value or key changed, moved or gone."""
    content = json.loads(json.dumps(content))
    places = list(_places(content))
    if not places:
        return json.dumps(_one_of(VALUES, rng)).replace(f'"{DEEP}"', _nested(rng))
    holder, key = places[rng.integers(len(places))]
    match rng.integers(6):
        case 0 if isinstance(holder, dict):
            del holder[key]
        case 1 if isinstance(holder, dict):
            holder[_one_of(NAMES, rng)] = holder.pop(key)
        case 2 if isinstance(holder, list):
            holder.insert(key, holder[key])
        case 3 if isinstance(holder, list):
            del holder[key]
        case 4:
            other, there = places[rng.integers(len(places))]
            holder[key] = json.loads(json.dumps(other[there]))
        case _:
            holder[key] = _one_of(VALUES, rng)
    return json.dumps(content).replace(f'"{DEEP}"', _nested(rng))


def _nested(rng: Rng) -> str:
    depth = int(rng.choice(DEPTHS))
    return "[" * depth + "]" * depth


def _places(content: Any):
    """(container, key or index) of every value within."""
    pairs = content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list) else ()
    for key, value in list(pairs):
        yield content, key
        yield from _places(value)


def _one_of(choices: Sequence[Any], rng: Rng) -> Any:
    return choices[rng.integers(len(choices))]


def _as_text(content: bytes, rng: Rng) -> bytes | None:
    try:
        text = content.decode()
    except UnicodeDecodeError:
        return None
    return None if "\x00" in text else damage_text(text, rng).encode("utf-8", "surrogateescape")


def _as_json(content: bytes, rng: Rng) -> bytes | None:
    if content[:1] not in (b"{", b"[") or rng.random() < 0.2:
        return None
    try:
        return damage_json(json.loads(content), rng).encode("utf-8", "surrogatepass")
    except (ValueError, RecursionError):
        return None


def _inside_zip(content: bytes, rng: Rng) -> bytes | None:
    """An archive whose check sums are right, with one member damaged, renamed, gone or there twice."""
    if content[:2] != b"PK" or rng.random() < 0.25:
        return None
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            members = [(name, archive.read(name)) for name in archive.namelist()]
    except Exception:  # damaged by the mutation before
        return None
    if not members:
        return None
    index = int(rng.integers(len(members)))
    name, data = members[index]
    match rng.integers(8):
        case 0:
            members[index] = name.replace("/", "_") + _one_of(NAMES, rng), data
        case 1:
            del members[index]
        case 2:
            members.append((name, members[rng.integers(len(members))][1]))
        case _:
            members[index] = name, damage(data, rng)
    stored, compressed = zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED
    buffer = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(buffer, "w", _one_of((stored, compressed), rng)) as archive:
        warnings.simplefilter("ignore")  # of names that are there twice
        for name, data in members:
            archive.writestr(zipfile.ZipInfo(name.encode("utf-8", "replace").decode()), data)
    return buffer.getvalue()


def _inside_header(content: bytes, rng: Rng) -> bytes | None:
    """A safetensors file with another header of the length that it states."""
    if len(content) < 10 or content[8:9] != b"{" or rng.random() < 0.3:
        return None
    length = int.from_bytes(content[:8], "little")
    try:
        header = json.loads(content[8 : 8 + length])
        inner = header.get("__metadata__", {})
        names = list(inner)
        if names and rng.random() < 0.6:  # JSON within JSON
            inner[names[0]] = damage(inner[names[0]].encode(), rng).decode("utf-8", "replace")
            text = json.dumps(header).encode()
        else:
            text = damage_json(header, rng).encode("utf-8", "surrogatepass")
    except (ValueError, RecursionError, AttributeError, TypeError):
        return None
    return len(text).to_bytes(8, "little") + text + content[8 + length :]


def _inside_npy(content: bytes, rng: Rng) -> bytes | None:
    """An array of NumPy whose header says something else."""
    if content[:6] != b"\x93NUMPY" or rng.random() < 0.3:
        return None
    (length,) = struct.unpack("<H", content[8:10])
    header = damage_text(content[10 : 10 + length].decode("latin1"), rng).encode("utf-8", "replace")[:65535]
    return content[:8] + struct.pack("<H", len(header)) + header + content[10 + length :]


def _rename(path: Path, rng: Rng) -> None:
    name = _one_of(NAMES, rng)
    path.rename(path.with_name(_one_of((name + path.suffix, path.stem + name, path.stem + name + path.suffix), rng)))


def _replace_by_folder(path: Path, rng: Rng) -> None:
    path.unlink()
    path.mkdir()


def _replace_by_link(path: Path, rng: Rng) -> None:
    path.unlink()
    path.symlink_to(_one_of((path.name, "nothing", ".", ".."), rng))


def _copy(path: Path, rng: Rng) -> None:
    shutil.copyfile(path, path.with_name(path.stem + _one_of(NAMES, rng) + path.suffix))


TREE: tuple[Callable[[Path, Rng], None], ...] = (
    lambda path, rng: path.unlink(),
    lambda path, rng: path.write_bytes(b""),
    lambda path, rng: shutil.rmtree(path.parent),
    _rename,
    _replace_by_folder,
    _replace_by_link,
    _copy,
)
