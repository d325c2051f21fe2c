"""From boxes to numbers: every toolkit's rule, and the files that hold results."""
