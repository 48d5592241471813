"""Says where personal values go, and how a person is found there.

It reads and changes nothing. Nothing here imports Dagster: what the last builds told about the
columns of their tables is handed in.
"""
