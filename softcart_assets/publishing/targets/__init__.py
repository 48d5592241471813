"""Other databases that get what production holds. `mysql` and `db2` have what is particular to them."""
