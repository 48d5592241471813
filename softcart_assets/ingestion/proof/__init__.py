"""What proves that raw equals its source: digests, comparison, reconciliation."""
