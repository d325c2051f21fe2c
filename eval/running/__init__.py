"""Trackers over sequences: one pass, restarts, many side by side, guests in processes of their own."""
