"""Where frames and boxes come from: sequences in every layout, videos and cameras, drawn clips."""
