"""The MySQL connector, for MariaDB too: reading tables, reading the binary log, discovering tables."""
