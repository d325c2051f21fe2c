"""What the papers claim, measured and drawn on weights at hand."""
