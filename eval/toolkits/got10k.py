"""A tracker of this project in the GOT-10k toolkit's own experiments (pip install got10k).

from got10k.experiments import ExperimentGOT10k
from eval.toolkits.got10k import got10k_tracker

experiment = ExperimentGOT10k("GOT-10k", subset="val")
experiment.run(got10k_tracker("dimp_tiny"))
experiment.report(["dimp_tiny"])
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from eval.online import load_online
from eval.running.passes import sequence_key


def got10k_tracker(name: str, weights: Path | str | None = None, assignments: Sequence[str] = (), *, seed: int = 0):
    """A `got10k.trackers.Tracker` of the tracker `name` of the registry.

    `weights` and `assignments` (`field=value`) as in eval.run. Deterministic: every sequence starts from the key
    eval.run gives to a sequence with the name of the images' folder, so that both yield the same boxes on GOT-10k.
    On OTB, LaSOT and TColor-128, whose files count from 1, the toolkit starts every tracker one pixel off, and so this.
    The toolkit's times hold the compilation. ImportError without the toolkit; ValueError as eval.run.
    """
    from got10k.trackers import Tracker

    online = load_online(name, weights, assignments)

    class Adapter(Tracker):
        """PIL images RGB, boxes x, y, w, h, as the toolkit has them."""

        def track(self, img_files: list[str], box: np.ndarray, visualize: bool = False) -> Any:
            self._key = sequence_key(jax.random.key(seed), Path(img_files[0]).parent.name)
            return super().track(img_files, box, visualize)

        def init(self, image: Any, box: np.ndarray) -> None:
            online.init(np.asarray(image), box, key=self._key)

        def update(self, image: Any) -> np.ndarray:
            return np.array(online.update(np.asarray(image))[1])

    return Adapter(name, is_deterministic=True)
