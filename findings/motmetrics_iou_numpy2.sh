#!/usr/bin/env bash
# motmetrics 1.4.0 asks for numpy without an upper bound, and with numpy 2 computes no distances of boxes: its
# iou_matrix calls numpy.asfarray, which numpy 2.0 took away. Reading files and all that needs no IoU still works, so
# the fault shows at the first comparison. With numpy 1.26 the same call answers.
#
# Seen with Python 3.11.7, motmetrics 1.4.0: numpy 2.2.6 "AttributeError: `np.asfarray` was removed in the NumPy 2.0
# release. Use `np.asarray` with a proper dtype instead."; numpy 1.26.4: IoU distance 0.5
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet motmetrics==1.4.0 numpy==2.2.6 pandas==2.2.3 scipy==1.15.3
program='import motmetrics; print("distance", motmetrics.distances.iou_matrix([[0, 0, 4, 4]], [[0, 0, 4, 2]])[0, 0])'
seen=$("$folder/env/bin/python" -W ignore -c "$program" 2>&1 | tail -n 1) || true
echo "numpy 2.2.6: $seen"
[[ $seen == AttributeError:*asfarray* ]]
"$folder/env/bin/pip" install --quiet numpy==1.26.4
seen=$("$folder/env/bin/python" -W ignore -c "$program" 2>&1 | tail -n 1)
echo "numpy 1.26.4: $seen"
[[ $seen == "distance 0.5" ]]
