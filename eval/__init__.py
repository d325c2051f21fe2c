"""The outside world: read sequences, run trackers on them, score, draw, report."""
