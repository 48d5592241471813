"""The operational data store: running totals in PostgreSQL, in the schema `ods`.

`table` has one total as SQL. `sink` brings the changes of a source's log into the totals. `rebuild`
computes a total anew while its log is followed, and compares totals with raw. Totals are always
those of the rows that raw has: what raw does not have, such as a row in quarantine, does not count.
"""
