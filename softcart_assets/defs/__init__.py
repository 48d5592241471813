"""Dagster objects, one module per layer. Each module is a thin loop over the lines of business."""
