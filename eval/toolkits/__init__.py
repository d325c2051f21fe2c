"""Our trackers inside other people's toolkits."""
