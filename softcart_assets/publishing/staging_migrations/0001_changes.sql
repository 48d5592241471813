-- Triggers on the published tables note here which rows change. A table `of_<name>` per published table has the keys
-- of its changed rows.
CREATE TABLE publication_changes._tables (
  table_name text PRIMARY KEY,
  table_id oid NOT NULL,
  capture uuid NOT NULL DEFAULT gen_random_uuid(),
  key text[] NOT NULL,
  columns text NOT NULL,
  dropped_until pg_snapshot NOT NULL
);
COMMENT ON TABLE publication_changes._tables IS
  'The tables with such triggers. dropped_until: changes that this snapshot sees may be gone from the notes.';

CREATE TABLE publication_changes._statements (
  table_name text NOT NULL,
  _xid xid8 NOT NULL,
  row_count bigint,
  number numeric
);
COMMENT ON TABLE publication_changes._statements IS
  'By how much each statement changed the number of rows and the sum of their numbers. Null if it is unknown, as after TRUNCATE.';
