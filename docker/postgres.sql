-- The image makes the database staging; these are the others.
CREATE DATABASE production;
CREATE DATABASE dagster;
CREATE DATABASE superset;
