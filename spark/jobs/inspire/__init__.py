"""The Spark jobs of the fitness application."""
