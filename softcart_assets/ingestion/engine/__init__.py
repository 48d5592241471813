"""The load of tables by reading them: what is read, and in which order things happen.

How rows are read is the connectors' affair, how they are written that of `sinks`. Nothing here
knows one kind of source system from another.
"""
