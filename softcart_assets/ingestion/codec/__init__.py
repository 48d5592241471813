"""What handles every single value, compiled: between a source's own bytes, Arrow and PostgreSQL's
binary COPY.

`textrows`: rows of MySQL's text protocol. `logrows`: rows of its binary log. `copying`:
PostgreSQL's COPY. `doctypes` and `documents`: MongoDB's documents. `hashing`: checksums of texts.
What they share is in the modules beside them, whose `.pxd` files hold what is inlined.
"""
