"""Offline training, and benchmarks of what training differentiates."""

import eval  # noqa: F401 (checks that `trackers` and `ops` are ours)
