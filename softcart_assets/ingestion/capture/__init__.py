"""Change data capture: reading a MySQL or MariaDB server's binary log and applying it to raw, history and the lake."""
