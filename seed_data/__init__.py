"""The seed data: generator, loader and live traffic simulator of the demo sources."""
