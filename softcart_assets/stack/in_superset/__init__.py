"""What runs in Superset's own environment, and imports nothing of ours: settings and a server."""
