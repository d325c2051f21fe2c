"""`python -m train.benchmark`: how long training steps take."""
