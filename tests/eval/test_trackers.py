"""The printed table of trackers: every tracker, from where its weights come, and the figures of RESULTS.md."""

import json
import re

import pytest

import trackers
from eval import catalog
from eval import trackers as listed
from tests.helpers import places
from trackers import measured

PAGE = (places.REPOSITORY / "trackers" / "README.md").read_text().split("\n## ")
(TABLE,) = [part for part in PAGE if part.startswith("All trackers")]


def test_every_tracker_has_a_row(capsys):
    assert listed.main([]) == 0
    heading, *lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == trackers.names()
    assert max(map(len, [heading, *lines])) <= 80
    (tiny,) = [line.split() for line in lines if line.startswith("dimp_tiny ")]
    auc, speed = measured.AUC["dimp_tiny"], measured.FRAMES_PER_SECOND["dimp_tiny"]
    assert tiny == ["dimp_tiny", "DiMP", "shipped", f"{auc:.3f}", f"{speed:.1f}"]


def test_as_json(capsys):
    assert listed.main(["--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["tracker"] for row in rows] == trackers.names()
    assert {row["tracker"]: row["auc"] for row in rows if row["auc"] is not None} == measured.AUC


def test_what_is_measured_is_a_tracker():
    assert {*measured.AUC, *measured.FRAMES_PER_SECOND} <= {*trackers.names()}


@pytest.mark.parametrize("name", trackers.names())
def test_shipped_weights_load_without_a_file(name):
    """Others say what to do; the page says the same of paper and weights."""
    source = catalog.weights(name)
    if source == "to convert":
        with pytest.raises(trackers.WeightsError, match="make it with"):
            trackers.load_params(name)
    else:
        assert source in ("shipped", "none")
    (row,) = [line for line in TABLE.splitlines() if re.match(rf"\| (`[\w.]+`, )*`{re.escape(name)}`[,| ]", line)]
    paper, weights = row.split("|")[2:4]
    assert catalog.paper(name).removesuffix("++") in paper or name == "atom_filterbank"
    if weights.strip() not in ("the host's", "the same"):
        assert ("come with the package" in weights) == (source == "shipped")
        assert (weights.strip() == "none") == (source == "none")


def test_an_unknown_tracker_is_one_short_line():
    for name, hint in (("dimp-tiny", "did you mean dimp_tiny"), ("yolo", "jaxtrack trackers lists them")):
        with pytest.raises(ValueError, match=hint) as caught:
            trackers.get(name)
        assert len(str(caught.value)) < 160 and "jaxtrack trackers" in str(caught.value)
