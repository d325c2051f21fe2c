"""`python -m eval.tune`: search over the numbers of a tracker's Config."""
