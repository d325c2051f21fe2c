"""Linear maps from one network's features to those of another, for `train.distill`."""

from collections.abc import Mapping

import flax.linen as nn
import jax

Array = jax.Array


class TapMaps(nn.Module):
    """A 1x1 convolution with bias to each tap of a teacher.

    channels: name of a tap of the teacher, and its channels.
    """

    channels: tuple[tuple[str, int], ...] = (("layer2", 128), ("layer3", 256))

    @nn.compact
    def __call__(self, taps: Mapping[str, Array] | tuple[Array, ...]) -> dict[str, Array]:
        """The student's taps -> {"layer2": `[N, h, w, 128]`, ..} in the student's cells.

        Of a dict, each map takes the tap of its own name; of a tuple, all take the last.
        """
        return {
            name: nn.Conv(width, (1, 1), kernel_init=nn.initializers.zeros, name=name)(
                taps[name] if isinstance(taps, Mapping) else taps[-1]
            )
            for name, width in self.channels
        }
