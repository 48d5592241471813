"""The Spark jobs of the mobile operator."""
