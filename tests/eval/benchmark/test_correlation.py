"""Tests of `python -m eval.benchmark.correlation`: it runs, and all its candidates compute the same."""

import json
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from eval.benchmark import correlation


@pytest.mark.parametrize("name", correlation.CANDIDATES)
def test_candidates_agree(name, rng):
    search, template = (jnp.asarray(rng.normal(size=(2, k, k, 4)), jnp.float32) for k in (6, 3))
    ours, other = (
        jax.jit(lambda *pair, one=correlation.CANDIDATES[key]: _both(one, *pair))(search, template)
        for key in ("depthwise_correlate", name)
    )
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-4), other, ours)


def _both(correlate, search, template):
    """Forward pass and gradients of pairs."""
    forward = jax.vmap(correlate)
    return forward(search, template), jax.grad(partial(correlation._energy, forward), (0, 1))(
        search, template
    )


def test_run(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(correlation, "SIZES", ((5, 2),))
    path = tmp_path / "report.json"
    options = ["--channels", "3", "--batches", "1,2", "--repeats", "2", "--json", str(path)]
    assert correlation.main(options) == 0
    rows = json.loads(path.read_text())["rows"]
    assert [(row["batch"], row["candidate"]) for row in rows] == [
        (batch, name) for batch in (1, 2) for name in correlation.CANDIDATES
    ]
    assert all(row[kind]["min_ms"] > 0 for row in rows for kind in ("forward", "gradient"))
    assert capsys.readouterr().out.count("| depthwise_correlate |") == 2
