"""The load of tables by reading them: which rows are read, and the order of the steps.

Connectors read rows and `sinks` write them. Nothing here knows one kind of source from another.
"""
