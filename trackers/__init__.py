"""Trackers as pure functions. `trackers.base` holds the one interface."""
