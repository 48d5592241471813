"""Dagster objects, a module or folder per layer: thin loops over the lines of business."""
