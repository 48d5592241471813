"""Torture: several writers change sources while reader, source and target are killed and cut off;
in the end all agree.

`workload` holds the tables and what is done to them, `documents` the same for a MongoDB, `model`
what a source must have become by that, `servers` the private servers and everything that harms
them, `reader` the process that is killed, `lakes` the lake's tables, `harness` a round of all that,
and `verdict` what is wrong in the end. Some of it is only in some rounds, as their seeds say: see
`harness.Extra`. `python -m tests.faults.torture --help` runs rounds by hand.
"""
