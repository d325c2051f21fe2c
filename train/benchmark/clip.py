"""Memory of MemTrack's loss and gradient by the length of the clip, known from compiling alone."""

from dataclasses import asdict, dataclass
from typing import Any

import jax
import jax.numpy as jnp

from eval.measure.timing import compile_timed
from trackers.nets import models
from trackers.parts.templates import EXEMPLAR_SIZE
from train import loop, memtrack


@dataclass(frozen=True)
class ClipOptions:
    """Clips that MemTrack is trained on; compiled only, nothing runs."""

    lengths: tuple[int, ...] = (4, 8, 16)  # steps
    template_size: int = EXEMPLAR_SIZE  # pixels of a side
    search_size: int = 255
    clips: int = 1  # of a batch
    chunk: int = 1  # frames that go through the backbone together


def run(options: ClipOptions) -> dict[str, Any]:
    """Bytes of the temporaries of MemTrack's loss and gradient, by length of the clip, as JSON-ready data.

    `state_bytes`: what the scan over chunks has to keep for the way back, the memory and the running statistics.
    `states_per_frame`: growth of the temporaries per frame of the clip, in those, of one chunk shared by its frames.
    """
    params = models.expected_variables("memtrack")
    config = memtrack.LossConfig(chunk=options.chunk)
    learned = loop.trained(params, loop.OptimizerConfig(groups=((".", 1.0),)))
    rows = []

    def value(learned, params, batch):
        return memtrack.loss(loop.with_trained(params, learned), batch, config)

    for length in options.lengths:
        args = learned, params, _abstract_clips(length, options)
        compiled, seconds = compile_timed(jax.value_and_grad(value, has_aux=True), *args)
        memory = compiled.memory_analysis()
        sizes = {"temporary_bytes": memory.temp_size_in_bytes, "argument_bytes": memory.argument_size_in_bytes}
        rows.append({"steps": length, "compile_s": seconds, **sizes})
    stored = jax.tree.leaves(memtrack.carried(params, _abstract_clips(1, options)["template_images"], config))
    state_bytes = sum(leaf.size * leaf.dtype.itemsize for leaf in stored)
    first, last = rows[0], rows[-1]
    growth = (last["temporary_bytes"] - first["temporary_bytes"]) / max(last["steps"] - first["steps"], 1)
    return {
        "config": asdict(options),
        "rows": rows,
        "state_bytes": state_bytes,
        "bytes_per_frame": growth,
        "states_per_frame": growth * options.chunk / state_bytes,
    }


def _abstract_clips(length: int, options: ClipOptions) -> dict[str, jax.ShapeDtypeStruct]:
    """Shapes of what `train.samples.clips.prepare` gives."""
    leading = (length, options.clips)
    shapes = {"keys": jax.eval_shape(lambda: jax.random.split(jax.random.key(0), options.clips))}
    for name, side in (("template", options.template_size), ("search", options.search_size)):
        shapes[f"{name}_images"] = jax.ShapeDtypeStruct((*leading, side, side, 3), jnp.float32)
        shapes[f"{name}_boxes"] = jax.ShapeDtypeStruct((*leading, 4), jnp.float32)
    return shapes


def table(result: dict[str, Any]) -> str:
    """The measurements of `run` for a terminal."""
    lines = [f"{'steps':>5} {'compile s':>10} {'temporary MiB':>14} {'arguments MiB':>14}"]
    for row in result["rows"]:
        sizes = (row[f"{name}_bytes"] / 2**20 for name in ("temporary", "argument"))
        lines.append(f"{row['steps']:5d} {row['compile_s']:10.1f} " + " ".join(f"{size:14.2f}" for size in sizes))
    lines.append(
        f"growth: {result['bytes_per_frame'] / 2**20:.3f} MiB a frame, {result['states_per_frame']:.2f} of the stored "
        f"states ({result['state_bytes'] / 2**20:.3f} MiB a chunk of {result['config']['chunk']})"
    )
    return "\n".join(lines)
