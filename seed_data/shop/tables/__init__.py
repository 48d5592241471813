"""The tables that grow with the scale, as Spark DataFrames with the columns of `shop.sql`."""
