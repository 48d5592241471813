"""Contracts: what people may rely on in each published table and each extract.

They are files in `contracts/`, after the Open Data Contract Standard. `odcs` makes the text of one
from what there is. `versions` tells what changed since, and raises the version. `files` reads and
writes them. Nothing here publishes or audits.
"""
