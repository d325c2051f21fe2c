#!/usr/bin/env bash
# vot-toolkit 0.9.0 takes two boxes that are one pixel high and lie in the same row of pixels for the same region,
# however far apart they are: the window around both, from the first to the last row, has no height, and two empty
# regions overlap fully. So do two boxes that are one pixel wide in the same column. Two pixels high, they overlap nothing.
#
# Seen with Python 3.11.7, vot-toolkit 0.9.0, attributee 0.1.8: one pixel high 1.0, two pixels high 0.0
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet vot-toolkit==0.9.0 attributee==0.1.8
cat > "$folder/thin.py" <<'PYTHON'
from vot.region.raster import calculate_overlap
from vot.region.shapes import Rectangle


def overlap(height):
    return calculate_overlap(Rectangle(10, 40, 20, height), Rectangle(110, 40, 30, height), (200, 200))


print(f"one pixel high {overlap(1)}, two pixels high {overlap(2)}")
PYTHON
seen=$("$folder/env/bin/python" -W ignore "$folder/thin.py")
echo "$seen"
[[ $seen == "one pixel high 1.0, two pixels high 0.0" ]]
