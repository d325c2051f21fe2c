"""What a run was made from: its numbers, hashes and versions."""

import dataclasses
import hashlib
import json
import platform
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

import jax
import numpy as np


def plain(config: Any) -> Any:
    """A config as JSON-ready values."""
    return json.loads(json.dumps(dataclasses.asdict(config), default=str))


def params_hash(params: Any) -> str:
    """First 16 hex digits of the SHA-256 of names, dtypes, shapes and values of a parameter tree."""
    digest = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_leaves_with_path(jax.device_get(params)):
        leaf = np.asarray(leaf)
        digest.update(f"{jax.tree_util.keystr(path)} {leaf.dtype} {leaf.shape}".encode())
        digest.update(np.ascontiguousarray(leaf).tobytes())
    return digest.hexdigest()[:16]


def versions() -> dict[str, str]:
    """Versions of what computes the numbers, the device, and the source revision where git knows it."""
    found = {"python": platform.python_version(), "device": jax.devices()[0].device_kind}
    for package in ("jaxtrack", "jax", "jaxlib", "flax", "numpy", "opencv-python", "av"):
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = "not installed as a package"
    command = ["git", "-C", str(Path(__file__).parent), "rev-parse", "HEAD"]
    try:
        revision = subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
    except OSError:
        revision = ""
    return {**found, "revision": revision or "unknown"}
