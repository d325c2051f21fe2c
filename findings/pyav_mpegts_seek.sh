#!/usr/bin/env bash
# Seeking an MPEG transport stream with B-frames (the default of x264) backward to the time stamp of a key frame lands
# behind that frame: what is decoded first is the next key frame, one group of pictures later, and for the last key
# frame nothing at all. The same frames in MP4 and Matroska are found exactly, and without B-frames those in .ts, too. So a program that keeps time stamps of key frames and seeks to them loses a
# group of frames without an error, whenever somebody records to .ts (broadcast, many IP cameras, HLS segments).
#
# Seen with Python 3.11.7, av 18.1.0 (libavformat 62.12.102): asked for key frames 0, 7, 14, 21, 28
#   mp4 0 7 14 21 28, mkv 0 7 14 21 28, ts 7 14 21 28 None
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet av==18.1.0 numpy==2.2.6
cat > "$folder/seek.py" <<'PROGRAM'
import sys

import av
import numpy as np

name = sys.argv[1]
with av.open(name, "w") as made:
    stream = made.add_stream("h264", 25)
    stream.width, stream.height, stream.pix_fmt, stream.gop_size = 64, 48, "yuv420p", 7
    for number in range(35):
        made.mux(stream.encode(av.VideoFrame.from_ndarray(np.full((48, 64, 3), 5 * number, np.uint8))))
    made.mux(stream.encode())
with av.open(name) as read:
    packets = [(packet.pts, packet.is_keyframe) for packet in read.demux(video=0) if packet.size]
numbers = {pts: number for number, pts in enumerate(sorted(pts for pts, _ in packets))}
found = []
for pts in [pts for pts, is_key in packets if is_key]:
    with av.open(name) as read:
        read.seek(pts, stream=read.streams.video[0], backward=True)
        first = next(read.decode(video=0), None)
        found.append(None if first is None else numbers[first.pts])
print(name.rpartition(".")[2], *found)
PROGRAM
seen=$(for kind in mp4 mkv ts; do "$folder/env/bin/python" "$folder/seek.py" "$folder/clip.$kind"; done)
echo "$seen"
[[ $seen == "mp4 0 7 14 21 28"$'\n'"mkv 0 7 14 21 28"$'\n'"ts 7 14 21 28 None" ]]
