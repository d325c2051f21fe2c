#!/usr/bin/env bash
# vot-toolkit 0.9.0 cannot run an experiment of type "supervised", the protocol of VOT 2013 to 2019 (a tracker that fails
# is started again): it asks for a tracker of several objects where the sequence has one, before the tracker sees a
# frame. No result is written, and `vot evaluate` still ends with exit status 0. The same tracker, a box that stays where
# it is, passes through an experiment of type "unsupervised".
#
# Seen with Python 3.11.7, vot-toolkit 0.9.0, attributee 0.1.8, vot-trax 4.0.2:
#   supervised: exit status 0, 0 results; Tracker does not support multiple objects, but multiple objects were provided
#   unsupervised: exit status 0, 1 results
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet vot-toolkit==0.9.0 attributee==0.1.8 vot-trax==4.0.2
cd "$folder"
mkdir -p sequences/dot/img
cat > draw.py <<'PYTHON'
import cv2
import numpy as np

rows = []
for index in range(1, 9):
    image = np.full((60, 80, 3), 90, np.uint8)
    image[20:40, 10 + index : 30 + index] = 200
    cv2.imwrite(f"sequences/dot/img/{index:04}.png", image)
    rows.append(f"{10 + index},20,20,20\n")
open("sequences/dot/groundtruth.txt", "w").writelines(rows)
PYTHON
cat > still.py <<'PYTHON'
import trax

with trax.Server([trax.Region.RECTANGLE], [trax.Image.PATH]) as server:
    objects = None
    while (request := server.wait()).type in ("initialize", "frame"):
        objects = request.objects if request.type == "initialize" else objects
        server.status(objects)
PYTHON
env/bin/python draw.py
printf 'name=dot\nfps=30\nchannels.color=img/%%04d.png\nlength=8\n' > sequences/dot/sequence
echo dot > sequences/list.txt
printf 'stack: ./stack.yaml\nregistry:\n- ./trackers.ini\n' > config.yaml
printf '[still]\nlabel=still\nprotocol=traxpython\ncommand=still\npaths=%s\n' "$folder" > trackers.ini
for kind in supervised unsupervised; do
  printf 'title: one sequence\nexperiments:\n  baseline:\n    type: %s\n' "$kind" > stack.yaml
  rm -rf results
  env/bin/python -W ignore -m vot evaluate --workspace . still > "$kind.txt" 2>&1 && status=0 || status=$?
  results=$({ find results -name '*.bin' 2>/dev/null || true; } | wc -l)
  echo "$kind: exit status $status, $results results" | tee -a seen.txt
done
grep -o 'Tracker does not support multiple objects' supervised.txt | head -n 1
[[ $(< seen.txt) == $'supervised: exit status 0, 0 results\nunsupervised: exit status 0, 1 results' ]]
