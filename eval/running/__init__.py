"""Trackers over sequences: one pass, restarts, many side by side, guests in processes of their own."""

PROTOCOLS = ("tre", "sre", "vot_reset", "vot_multistart")  # of `eval.running.restarts`
