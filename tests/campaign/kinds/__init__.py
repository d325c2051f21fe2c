"""The kinds of input that the project reads, by name: `KINDS`."""

from tests.campaign.kinds import results, sequences, settings, training, weights
from tests.campaign.kinds.base import Kind

KINDS: dict[str, Kind] = {
    **weights.KINDS,
    **sequences.KINDS,
    **results.KINDS,
    **settings.KINDS,
    **training.KINDS,
}
