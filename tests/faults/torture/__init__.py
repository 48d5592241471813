"""Torture: several writers change a source while reader, source and target are killed and cut off;
in the end all agree.

`workload` holds the tables and what is done to them, `model` what the source must have become by
that, `servers` the private servers and everything that harms them, `reader` the process that is
killed, `harness` a round of all that and its verdict. `python -m tests.faults.torture --help` runs
rounds by hand.
"""
