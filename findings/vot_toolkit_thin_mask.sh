#!/usr/bin/env bash
# vot-toolkit 0.9.0 reads a mask as empty where all its pixels lie in the first column of its window, so every mask
# that is one pixel wide: reading shrinks a mask to its pixels, and takes "the last column is 0" for "no pixels". Its own
# text of such a mask, read back, overlaps the mask by 0. A mask one pixel high is kept.
#
# Seen with Python 3.11.7, vot-toolkit 0.9.0, attributee 0.1.8: m10,20,1,5,0,5 has 0 of 5 pixels, m10,20,5,1,0,5 has 5,
# m10,20,2,5,0,10 has 10
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet vot-toolkit==0.9.0 attributee==0.1.8
"$folder/env/bin/python" -W ignore - <<'PYTHON'
from vot.region.io import parse_region

lines = "m10,20,1,5,0,5", "m10,20,5,1,0,5", "m10,20,2,5,0,10"
counts = [int(parse_region(line).mask.sum()) for line in lines]
print(*(f"{line} has {count} pixels" for line, count in zip(lines, counts)), sep="\n")
assert counts == [0, 5, 10]
PYTHON
