#!/usr/bin/env bash
# vot-toolkit 0.9.0 draws a box that begins left of the image (or above it) too narrow when no image size is given: it
# compares the box's end, counted from the window, with the window's end, counted from the image. Two boxes of 30 pixels
# that share 15 overlap by 15 / 45; ten pixels of the first are lost where it begins at x = -10.
#
# Seen with Python 3.11.7, vot-toolkit 0.9.0, attributee 0.1.8: both inside 0.3333, one begins at x = -10 0.4286
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet vot-toolkit==0.9.0 attributee==0.1.8
cat > "$folder/outside.py" <<'PYTHON'
from vot.region.raster import calculate_overlap
from vot.region.shapes import Rectangle


def overlap(x):
    return calculate_overlap(Rectangle(x, 10, 30, 20), Rectangle(x + 15, 10, 30, 20))


print(f"both inside {overlap(10):.4f}, one begins at x = -10 {overlap(-10):.4f}")
PYTHON
seen=$("$folder/env/bin/python" -W ignore "$folder/outside.py")
echo "$seen"
[[ $seen == "both inside 0.3333, one begins at x = -10 0.4286" ]]
