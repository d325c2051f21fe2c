#!/usr/bin/env bash
# OpenCV's tracker MIL gives other boxes each time it runs in one process, and `cv2.setRNGSeed` does not help: it draws
# from a generator of the process that nothing in the Python interface sets back. In a new process the boxes of the first
# run come again. KCF has no such generator: its runs are equal. A benchmark that starts MIL several times in one process
# measures something that depends on what ran before.
#
# Seen with Python 3.11.7, opencv-contrib-python-headless 5.0.0.93:
#   one process: KCF's runs are equal: True, MIL's runs are equal: False
#   two processes: MIL's first runs are equal: True
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet opencv-contrib-python-headless==5.0.0.93
cat > "$folder/runs.py" <<'PYTHON'
import sys

import cv2
import numpy as np

draw = np.random.default_rng(0)
ground = cv2.resize(draw.integers(0, 255, (30, 40, 3), np.uint8), (320, 240), interpolation=cv2.INTER_CUBIC)
target = cv2.resize(draw.integers(0, 255, (5, 5, 3), np.uint8), (40, 40), interpolation=cv2.INTER_NEAREST)


def run(tracker):
    cv2.setRNGSeed(0)
    boxes = []
    for index in range(15):
        image = ground.copy()
        x, y = 80 + 3 * index, 60 + 2 * index
        image[y : y + 40, x : x + 40] = target
        if index == 0:
            tracker.init(image, (x, y, 40, 40))
        else:
            boxes.append(tracker.update(image)[1])
    return boxes


first = run(cv2.TrackerMIL.create())
if len(sys.argv) > 1:
    print(first)
else:
    kcf = run(cv2.TrackerKCF.create()) == run(cv2.TrackerKCF.create())
    print(f"one process: KCF's runs are equal: {kcf}, MIL's runs are equal: {first == run(cv2.TrackerMIL.create())}")
PYTHON
run() { "$folder/env/bin/python" "$folder/runs.py" "$@"; }
same=$([[ $(run first) == "$(run first)" ]] && echo True || echo False)
seen="$(run)"$'\n'"two processes: MIL's first runs are equal: $same"
echo "$seen"
[[ $seen == "one process: KCF's runs are equal: True, MIL's runs are equal: False
two processes: MIL's first runs are equal: True" ]]
