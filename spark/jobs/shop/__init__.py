"""The Spark jobs of the shop, a module per aggregate."""
