"""What several trackers are built of."""
