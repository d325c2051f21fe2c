"""The benchmark of the gradient through DiMP's optimizer: its variants agree, and its memory claim holds."""

import json
from functools import partial

import jax
import numpy as np

from train import benchmark

CONFIG = benchmark.Config(channels=32, size=5, samples=2, test_frames=1, steps=(3, 9), repeats=1)


def test_variants_agree_in_value_and_gradient():
    inputs, boxes = benchmark.make_problem(CONFIG)
    results = [
        jax.jit(jax.value_and_grad(benchmark.make_loss(benchmark.VARIANTS[name], boxes, 3, True)))(inputs)
        for name in ("while loop", "scan")
    ]
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-7), *results)


def test_memory_grows_by_one_filter_a_step_and_by_two_when_every_iterate_is_scored(monkeypatch):
    monkeypatch.setattr(benchmark, "VARIANTS", {"while loop": benchmark.by_while_loop})
    result = benchmark.run(CONFIG)
    growth = {row["scored"]: row["filters_per_step"] for row in result["growth"]}
    assert 0 < growth["final filter"] <= 1.2
    assert 0 < growth["every iterate"] <= 2.2
    assert json.loads(json.dumps(result))["config"]["steps"] == [3, 9]
    assert benchmark.table(result).count("while loop") == 4 + 2
