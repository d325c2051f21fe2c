"""Training runs: each file has a function `get_config()`."""
