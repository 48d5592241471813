"""Other databases that get what production holds. Each product has a module with all of its SQL."""
