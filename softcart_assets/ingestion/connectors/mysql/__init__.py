"""The connector of MySQL and MariaDB."""
