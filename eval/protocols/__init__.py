"""What the benchmarks measure, as functions of arrays in float64: no files, no images.

ope.py: one pass over a sequence, by every toolkit's rule (OTB, LaSOT, TrackingNet, UAV123, NFS ...). got10k.py: AO
and SR. vot_resets.py, vot_multistart.py: VOT's two short-term protocols with their drivers; regions.py: overlap of
polygons as VOT draws them. longterm.py: VOT-LT and OxUvA. restarts.py: OTB's TRE and SRE. statistics.py: attributes,
seeds, calibration.

A driver takes the tracker as two callables on frame numbers: `init(index, box)` and `update(index) -> box`, boxes x,
y, w, h.
"""
