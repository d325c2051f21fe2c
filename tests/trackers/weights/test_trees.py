"""The digests that spare a start the trace of the networks are those of the networks."""

import numpy as np
import pytest
from flax.traverse_util import flatten_dict, unflatten_dict

from trackers.nets import models
from trackers.weights import WeightsError, files, released, sources, trees

SHIPPED = [name for name in trees.DIGESTS if released.path(name) or released.heads(name)]


@pytest.mark.parametrize(
    "model", [name if name in SHIPPED else pytest.param(name, marks=pytest.mark.full) for name in trees.DIGESTS]
)
def test_digest_is_that_of_the_networks(model):
    assert trees.DIGESTS[model] == files.digest_of(models.expected_variables(model)), f"put it into {trees.__file__}"


def test_every_file_that_comes_with_the_package_is_known():
    assert {name for name in models.names() if released.path(name) or released.heads(name)} <= set(trees.DIGESTS)


def test_a_known_file_is_read_without_a_trace_and_another_is_refused(tmp_path, monkeypatch):
    model, path = "atom_multiscale_small", tmp_path / "params.safetensors"
    expected = models.expected_variables(model)
    params = {name: np.full(leaf.shape, 0.5, leaf.dtype) for name, leaf in flatten_dict(expected, sep="/").items()}
    tree = {tuple(name.split("/")): value for name, value in params.items()}
    files.save(path, unflatten_dict(tree), model=model, half=True)
    with monkeypatch.context() as patch:
        patch.setattr(models, "expected_variables", lambda model: pytest.fail("traced"))
        found = sources.whole(path, model).params
    assert {"/".join(key): (leaf.shape, leaf.dtype) for key, leaf in flatten_dict(found).items()} == {
        name: (value.shape, value.dtype) for name, value in params.items()
    }
    first = next(iter(tree))
    files.save(path, unflatten_dict({**tree, first: tree[first][..., :1]}), model=model)
    with pytest.raises(WeightsError, match="tensors differ"):
        sources.whole(path, model)
