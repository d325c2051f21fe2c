"""`python -m eval.benchmark` and its siblings: how long trackers and operators take."""
