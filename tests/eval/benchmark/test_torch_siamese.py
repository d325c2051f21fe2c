"""The Siamese networks in PyTorch, to which `eval.benchmark --torch` compares ours, compute the same."""

import jax
import numpy as np
import pytest

from eval.benchmark import torch_siamese
from eval.files import ResultError
from trackers.nets import models, siamese

torch = pytest.importorskip("torch", reason="PyTorch is only there to be compared with")

TOLERANCE = 1e-5  # relative L2, float32; 1e-6 was seen


@pytest.mark.parametrize(
    "model", ["siamfc", "siamrpn", "siamrpnpp_alexnet", "siamrpnpp_mobilenetv2_1.0", "siamrpnpp_resnet50"]
)
def test_same_maps(model):
    params, network = models.init_variables(model, jax.random.key(0)), siamese.make(model)
    rng = np.random.default_rng(0)
    exemplar, crops = (rng.uniform(0, 255, (1, size, size, 3)).astype(np.float32) for size in (127, 191))

    def maps(params, exemplar, crops):
        return network.correlate(params, network.embed(params, exemplar), network.features(params, crops).search)

    ours = jax.tree.leaves(jax.jit(maps)(params, exemplar, crops))
    for layout in torch_siamese.LAYOUTS:
        template, search = torch_siamese.network(model, params, layout)
        exemplar_, crops_ = (torch.from_numpy(images.transpose(0, 3, 1, 2).copy()) for images in (exemplar, crops))
        for mine, other in zip(ours, search(template(exemplar_), crops_), strict=True):
            other = np.moveaxis(other.numpy(), 1, 3).reshape(mine.shape)
            assert np.linalg.norm(mine - other) <= TOLERANCE * np.linalg.norm(other)


def test_timed_in_a_process_of_its_own():
    params = models.init_variables("siamrpnpp_alexnet", jax.random.key(0))
    images = [np.zeros((1, size, size, 3), np.float32) for size in (127, 191)]
    with torch_siamese.timed("siamrpnpp_alexnet", params, *images) as calls:
        assert list(calls) == list(torch_siamese.LAYOUTS)
        assert all(0 < call() < 60 for call in calls.values())


def test_failure_in_that_process_is_said():
    params = models.init_variables("siamrpnpp_alexnet", jax.random.key(0))
    too_small = [np.zeros((1, 20, 20, 3), np.float32)] * 2
    with torch_siamese.timed("siamrpnpp_alexnet", params, *too_small) as calls:
        with pytest.raises(ResultError, match="has ended"):
            calls[torch_siamese.LAYOUTS[0]]()
