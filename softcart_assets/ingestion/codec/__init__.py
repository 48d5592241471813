"""Compiled code that handles every single value, between a source's bytes, Arrow and PostgreSQL's
binary COPY.

`textrows`: rows of MySQL's text protocol. `logrows`: rows of its binary log. `copying`:
PostgreSQL's COPY. `doctypes` and `documents`: MongoDB's documents. `hashing`: checksums of texts.
The modules next to them have what they share. Their `.pxd` files have what is inlined.
"""
