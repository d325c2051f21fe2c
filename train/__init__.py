"""Offline training, and benchmarks of what training differentiates."""
