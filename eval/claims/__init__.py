"""What the papers claim, measured and drawn for your weights."""
