"""The one I/O corner of the core: parameter files, and readers of the peers' checkpoints."""


class WeightsError(ValueError):
    """A weight file that cannot be read, written or used; the message is for the user and names the file."""
