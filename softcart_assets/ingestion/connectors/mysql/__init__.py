"""The MySQL connector, for MariaDB too.

Reading tables, reading the binary log, discovering tables.
"""
