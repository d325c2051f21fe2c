#!/usr/bin/env bash
# vot-toolkit 0.9.0 turns a rectangle into a mask at twice its place: Mask.convert draws the rectangle on a canvas that
# begins at the image's corner, and then gives the result the rectangle's corner as its offset as well. So the mask of
# a rectangle anywhere but at the corner does not overlap the rectangle. (Scoring does not pass through it: overlaps of
# rectangles and masks are drawn in one window.)
#
# Seen with Python 3.11.7, vot-toolkit 0.9.0, attributee 0.1.8: rectangle 10,20,4,3 becomes a mask whose pixels lie in
# columns 20 to 23, rows 40 to 42; overlap 0.0; at the corner 0,0,4,3 the overlap is 1.0
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet vot-toolkit==0.9.0 attributee==0.1.8
"$folder/env/bin/python" -W ignore - <<'PYTHON'
from vot.region.raster import calculate_overlap
from vot.region.shapes import Mask, Rectangle

box, corner = Rectangle(10, 20, 4, 3), Rectangle(0, 0, 4, 3)
left, top, right, bottom = (int(side) for side in Mask.convert(box).bounds())
shared, at_the_corner = (calculate_overlap(region, Mask.convert(region)) for region in (box, corner))
print(f"columns {left} to {right}, rows {top} to {bottom}; overlap {shared}; at the corner {at_the_corner}")
assert (left, right, top, bottom) == (20, 23, 40, 42) and shared == 0.0 and at_the_corner == 1.0
PYTHON
