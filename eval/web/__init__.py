"""A page on this machine to draw, watch and correct the tracks of a video."""
