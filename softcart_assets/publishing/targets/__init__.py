"""Other databases that get what production holds. `mysql` has what is particular to MySQL."""
