"""Where changes go: the raw tables of the staging warehouse, and the change files of the lake."""
