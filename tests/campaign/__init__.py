"""Searches for faults: damaged inputs (`mutations`), killed commands (`kills`), long runs (`soak`)."""
