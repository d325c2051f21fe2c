"""Flax modules: the only place that imports `flax.linen`."""
