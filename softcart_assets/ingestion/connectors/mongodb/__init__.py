"""The MongoDB connector: reading collections and following their change streams."""
