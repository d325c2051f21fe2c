"""`python -m eval.benchmark` and more: how long trackers and operators take."""
