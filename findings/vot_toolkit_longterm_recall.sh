#!/usr/bin/env bash
# vot-toolkit 0.9.0 counts two special regions ("the target is absent", said by the annotation and by the tracker) as
# an overlap of 1. compute_tpr_curves sums overlaps over all frames at or above a confidence, but divides recall by the
# number of frames in which the target is visible: a tracker that is right about absent frames, and sure of it, gets a
# recall above 1. Here it is perfect, the target is absent in two frames of four: recall 2.
#
# Seen with Python 3.11.7, vot-toolkit 0.9.0, attributee 0.1.8: precision 1.0, recall 2.0
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet vot-toolkit==0.9.0 attributee==0.1.8
cat > "$folder/perfect.py" <<'PYTHON'
from types import SimpleNamespace

from vot.analysis.longterm import compute_tpr_curves
from vot.region import Special
from vot.region.shapes import Rectangle

truth = [Rectangle(10, 10, 20, 20)] * 2 + [Special(0)] * 2
sequence = SimpleNamespace(groundtruth=lambda: truth, size=(100, 100))
precision, recall = compute_tpr_curves(truth, [1.0] * 4, sequence, [0.5])
print(f"precision {precision[0]}, recall {recall[0]}")
PYTHON
seen=$("$folder/env/bin/python" -W ignore "$folder/perfect.py")
echo "$seen"
[[ $seen == "precision 1.0, recall 2.0" ]]
