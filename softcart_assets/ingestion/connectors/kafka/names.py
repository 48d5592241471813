"""Names of the connector's own, known without a client library."""

LOG_POSITION = "_log_position"
"""The column with the place in the database's log that a row was last told at."""
