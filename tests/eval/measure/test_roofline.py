"""The share of the roofline, and the yardsticks it is measured with."""

import numpy as np
import pytest

from eval.measure import roofline


def test_the_share_is_that_of_the_binding_yardstick_round_by_round():
    sticks = {
        roofline.PRODUCT: roofline.Yardstick(lambda: None, 100.0),
        roofline.COPY: roofline.Yardstick(lambda: None, 10.0),
    }
    seconds = {roofline.PRODUCT: np.array([1.0, 2.0]), roofline.COPY: np.array([1.0, 2.0]), "row": np.array([4.0, 8.0])}
    computing = roofline.share("row", roofline.Work(200.0, 1.0), sticks, seconds)
    assert computing == {"roofline_share": pytest.approx(0.5), "bound": "compute"}
    moving = roofline.share("row", roofline.Work(1.0, 10.0), sticks, seconds)
    assert moving == {"roofline_share": pytest.approx(0.25), "bound": "memory"}


def test_yardsticks_take_long_enough(monkeypatch):
    monkeypatch.setattr(roofline, "MATRIX_SIDE", 32)
    stick = roofline.matrix_product(least_seconds=1e-3)
    assert stick.amount % (2 * 32**3) == 0 and np.isfinite(np.asarray(stick.call())).all()
    size = [np.linalg.norm(np.asarray(roofline.matrix_product(least_seconds=s).call())) for s in (0, 0.05)]
    assert size[1] == pytest.approx(size[0], rel=0.01)  # however many products there are
    copy = roofline.stream_copy(4096, least_seconds=1e-3)
    before, after = (np.asarray(copy.call())[0] for _ in range(2))
    assert copy.amount == 2 * 4096 * (after - before)
