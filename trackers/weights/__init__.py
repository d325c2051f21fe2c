"""The one I/O corner of the core: parameter files, and readers of reference checkpoints (of "peers")."""


class WeightsError(ValueError):
    """A weight file that cannot be read, written or used; the message is for the user and names the file."""
