"""The one I/O corner of the core: parameter files, and readers of the peers' checkpoints."""
