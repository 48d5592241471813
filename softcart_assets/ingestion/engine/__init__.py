"""The load of tables by reading them.

`tables` shares the tables of a call among threads. `table` decides which rows a load reads, and
orders its steps. `ranges` and `parts` copy big tables in key ranges. `files` and `record` are what
the lake and the bookkeeping get. No module asks for a kind of source: the protocols in `readers`
tell what each can do.
"""
