"""How time, operations and the machine's peak are measured."""

from eval.measure.flops import count_flops
from eval.measure.timing import time_function

__all__ = ["count_flops", "time_function"]
