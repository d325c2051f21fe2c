"""One build of this project in a process of its own, asked by `eval.benchmark.builds`.

Runs with the modules of the build that PYTHONPATH names, which may be an older one: it calls only what every build has.
Its argument is a JSON object: `tracker`, `weights` (a file or null) and `clip`, an .npz of `images` `[2, H, W, 3]` on
their canvas, `extent` and the first `box` as y, x of the center and h, w. It answers the lines on its input, `compile`,
`init` and `track`, with the seconds that each took, and ends with them.
"""

import importlib
import json
import resource
import sys
import time
from collections.abc import Callable


def main() -> None:
    asked = json.loads(sys.argv[1])
    sys.meta_path[:] = [finder for finder in sys.meta_path if not is_editable(finder)]
    _prepare()
    import jax
    import numpy as np

    import trackers
    from ops.boxes import Box
    from trackers.base import Frame

    entry = trackers.get(asked["tracker"])
    params = jax.device_put(trackers.load_params(asked["tracker"], asked["weights"]))
    clip = np.load(asked["clip"])
    first, second = (jax.device_put(Frame(image, clip["extent"])) for image in clip["images"])
    box = jax.device_put(Box(clip["box"][:2], clip["box"][2:]))
    tracker, key = entry.make(entry.config), jax.random.key(0)
    programs, state = {}, None
    for line in sys.stdin:
        start = time.perf_counter()
        match line.strip():
            case "compile":
                programs = _compiled(entry, tracker, params, key, first, second, box)
            case "init":
                state = jax.block_until_ready(programs["init"](params, key, first, box))
            case "track":
                state, _ = jax.block_until_ready(programs["track"](params, state, second))
        seconds = time.perf_counter() - start
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        print(json.dumps({"seconds": seconds, "peak_bytes": peak}), flush=True)


def is_editable(finder: object) -> bool:
    """Whether it finds the modules of an editable installation: also those that the build asked for does not have."""
    return getattr(finder, "__module__", "").startswith("__editable__")


def _compiled(entry, tracker, params, key, first, second, box) -> dict[str, Callable]:
    """As the commands of that build do it, which may keep programs and compile two at the same time."""
    import jax

    try:
        from eval.running import stored
        from eval.running.compilation import prepare_both
        from eval.running.passes import Compiled
    except ImportError:
        options = _compiler_options()
        init = jax.jit(tracker.init).lower(params, key, first, box).compile(options)
        shapes = jax.eval_shape(tracker.init, params, key, first, box)
        track = jax.jit(tracker.track, donate_argnums=1).lower(params, shapes, second).compile(options)
        return {"init": init, "track": track}
    both = Compiled.of(tracker, stored.made_of(entry, entry.config))
    init = prepare_both(both.init, both.track, params, key, first, box)
    return {"init": init, "track": both.track.prepare(params, both.init.shapes(params, key, first, box), second)}


def _compiler_options() -> dict[str, object]:
    """As the commands of that build have them."""
    try:
        from eval.xla import compiler_options
    except ImportError:
        return {}
    return compiler_options()


def _prepare() -> None:
    """As the commands of that build do."""
    for name in ("eval.command", "eval.process"):
        try:
            module = importlib.import_module(name)
        except ImportError:
            continue
        module.enable_compilation_cache()
        module.keep_freed_memory()
        return


if __name__ == "__main__":
    main()
