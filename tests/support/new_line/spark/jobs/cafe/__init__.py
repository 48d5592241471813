"""The Spark jobs of the cafés."""
