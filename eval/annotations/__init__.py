"""Boxes of the targets of a video: what is said of them, and the formats of files that say it."""
