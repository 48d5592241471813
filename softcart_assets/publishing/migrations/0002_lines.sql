-- Lines of business go live together or keep what they have. What was published before has no rows
-- here: the next publication finds the line of each table in the declarations.
CREATE TABLE production_meta.lines (
  line text PRIMARY KEY,
  version bigint NOT NULL,
  published_at timestamptz NOT NULL,
  tables text[] NOT NULL
);
COMMENT ON TABLE production_meta.lines IS
  'Each line of business: the publication that its live tables come from, and their names.';
