"""From data sets to batches: frames, pairs and clips, and how they are drawn and augmented."""
