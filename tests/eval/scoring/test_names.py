"""Names of sequences as toolkits write them."""

import numpy as np
import pytest

from eval.scoring.names import match

OTB = ["Jogging-1", "Jogging-2", "CarScale", "Human4-2", "David"]
UAV = ["bike1", "car1_1", "car11", "uav1_1"]


@pytest.mark.parametrize(
    ("results", "sequences", "expected"),
    [
        (OTB, OTB, OTB),
        (["Jogging_1", "Jogging_2", "carScale", "Human4_2", "David"], OTB, OTB),  # pytracking, pysot
        (["Jogging.1", "Jogging.2", "CarScale", "Human4", "David"], OTB, OTB),  # got10k, the MATLAB benchmark
        ([f"uav_{name}" for name in UAV], UAV, UAV),
        (["nfs_Gymnastics", "tpl_Bike_ce1"], ["Gymnastics", "Bike_ce1"], ["Gymnastics", "Bike_ce1"]),
        (["Gymnastics"], ["nfs_Gymnastics"], ["nfs_Gymnastics"]),
        (["a.1", "a-1"], ["a-1", "a_1"], ["a_1", "a-1"]),  # the exact one first
    ],
)
def test_every_toolkits_names_are_found(results, sequences, expected):
    found, unknown, doubtful = match(results, sequences)
    assert found == dict(zip(expected, results)) and not unknown and not doubtful


@pytest.mark.parametrize(
    ("results", "doubt", "found"),
    [
        (["Jogging-1", "jogging.1", "David"], "Jogging-1, jogging.1: could each be Jogging-1", {"David": "David"}),
        (["uav_David", "nfs_David"], "uav_David, nfs_David: could each be David", {}),
    ],
)
def test_what_several_could_mean_is_not_taken(results, doubt, found):
    matched, unknown, (line,) = match(results, OTB)
    assert matched == found and not unknown and line.startswith(doubt)
    matched, unknown, (line,) = match(["a.1"], ["a-1", "a_1"])
    assert not matched and "a.1: could each be a-1 or a_1" in line


def test_separators_are_not_dropped_and_what_is_left_is_named(rng):
    found, unknown, doubtful = match(["car1_1", "car12", "bird"], UAV)
    assert found == {"car1_1": "car1_1"} and unknown == ["car12", "bird"] and not doubtful
    names = [f"{word}-{number}" for word in ("car", "Bus", "uav") for number in range(20)]
    written = [name.swapcase().replace("-", str(rng.choice(list("-_. ")))) for name in names]
    order = rng.permutation(len(names))
    found, unknown, doubtful = match(np.array(written)[order].tolist(), names)
    assert found == dict(zip(names, written)) and not unknown and not doubtful
