-- A clock may be set back, so numbers of our own tell which write came later.
CREATE SEQUENCE IF NOT EXISTS ingestion.versions;
COMMENT ON SEQUENCE ingestion.versions IS
  'Numbers of writes to raw tables and lake files. A later write to a table has a larger number.';

-- Raw tables, and part tables that may still become raw ones. A history numbers its rows itself.
DO $$
DECLARE
  relation regclass;
  has_versions boolean;
  latest bigint;
BEGIN
  FOR relation, has_versions IN
    SELECT c.oid, bool_or(attname = '_version') FROM pg_class c
    JOIN pg_namespace n ON n.oid = relnamespace JOIN pg_attribute ON attrelid = c.oid
    WHERE relkind = 'r' AND NOT attisdropped AND (nspname LIKE 'raw\_%' OR nspname = 'ingestion')
    GROUP BY c.oid
    HAVING count(*) FILTER (WHERE attname IN ('_deleted', '_loaded_at', '_position')) = 3
      AND NOT bool_or(attname = '_committed_at')
  LOOP
    IF has_versions THEN
      -- Raw outlives a dropped schema `ingestion`. New numbers must not lie below its old ones.
      EXECUTE format('SELECT max(_version) FROM %s', relation) INTO latest;
      PERFORM setval('ingestion.versions', latest) WHERE latest > nextval('ingestion.versions');
    ELSE
      -- The same value for all present rows, so PostgreSQL writes none of them.
      EXECUTE format('ALTER TABLE %s ADD _version bigint NOT NULL DEFAULT 0', relation);
    END IF;
    EXECUTE format(
      'ALTER TABLE %s ALTER _version SET DEFAULT nextval(''ingestion.versions'')', relation
    );
  END LOOP;
END $$;

-- The history of a lake table is read by date. Around midnight, some files were listed under
-- another date than that of their folder.
UPDATE ingestion.lake_files SET load_date = substring(path from 'load_date=(\d{4}-\d\d-\d\d)/')::date
WHERE load_date <> substring(path from 'load_date=(\d{4}-\d\d-\d\d)/')::date;
