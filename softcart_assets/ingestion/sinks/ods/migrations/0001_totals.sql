CREATE TABLE ods._totals (
  name        text PRIMARY KEY,
  source      text NOT NULL,
  table_name  text NOT NULL,
  fingerprint text NOT NULL,
  built_at    timestamptz NOT NULL
);
COMMENT ON TABLE ods._totals IS
  'The running totals that are kept, and functions that read last rows. fingerprint: hash of the declaration, and of the types of the columns that it '
  'reads. built_at: when all of it was last computed from raw.';

CREATE TABLE ods._builds (
  name       text PRIMARY KEY,
  started_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE ods._builds IS
  'Totals that are being computed anew beside the present ones. Meanwhile, each change of them is also kept in '
  '_later_<name>.';

-- Where clocks are set back over midnight, it comes twice, and PostgreSQL takes the second one. Where they are set
-- forward, it may not come at all: then PostgreSQL takes the moment of the change, which begins the day.
CREATE FUNCTION ods.midnight(day date, zone text) RETURNS timestamptz LANGUAGE sql STABLE
RETURN CASE
  WHEN ((day::timestamp AT TIME ZONE zone) - interval '1 hour') AT TIME ZONE zone = day::timestamp
    THEN (day::timestamp AT TIME ZONE zone) - interval '1 hour'
  ELSE day::timestamp AT TIME ZONE zone
END;
COMMENT ON FUNCTION ods.midnight IS 'The moment when a day begins in a time zone.';

CREATE FUNCTION ods.local_day(zone text, moment timestamptz)
RETURNS TABLE (starts_at timestamptz, ends_at timestamptz) LANGUAGE sql STABLE
BEGIN ATOMIC
  SELECT ods.midnight(d.day, zone), ods.midnight(d.day + 1, zone)
  FROM (SELECT (moment AT TIME ZONE zone)::date) AS d (day);
END;
COMMENT ON FUNCTION ods.local_day IS 'The day in a time zone that holds a moment. Its end is the beginning of the next.';

CREATE FUNCTION ods.cycle(cycle_day integer, zone text, moment timestamptz)
RETURNS TABLE (starts_at timestamptz, ends_at timestamptz) LANGUAGE sql STABLE
BEGIN ATOMIC
  SELECT ods.midnight(c.first, zone), ods.midnight((c.first + interval '1 month')::date, zone)
  FROM (
    SELECT (date_trunc('month', local) - CASE WHEN extract(day FROM local) < cycle_day THEN interval '1 month'
      ELSE interval '0' END)::date + cycle_day - 1
    FROM (SELECT moment AT TIME ZONE zone) AS l (local)
  ) AS c (first);
END;
COMMENT ON FUNCTION ods.cycle IS
  'The billing period that holds a moment, if periods begin on a day of the month (1 to 28) in a time zone.';

CREATE VIEW ods.positions AS
SELECT
  t.name,
  t.source,
  t.table_name,
  CASE WHEN c.state = 'live' AND c.stale_since IS NOT NULL THEN 'stale' ELSE coalesce(c.state, 'read') END AS state,
  CASE WHEN c.state = 'live' THEN s.position ELSE coalesce(c.position, p.position) END AS position,
  CASE WHEN c.state = 'live' THEN s.committed_at END AS committed_at,
  CASE WHEN c.state = 'live' THEN s.complete_at ELSE p.loaded_at END AS complete_at,
  CASE WHEN c.state = 'live' THEN s.updated_at ELSE p.loaded_at END AS updated_at,
  c.reason
FROM ods._totals AS t
LEFT JOIN ingestion.captures AS c ON c.source = t.source AND c.table_name = t.table_name
LEFT JOIN ingestion.streams AS s ON s.source = t.source
LEFT JOIN ingestion.positions AS p ON p.source = t.source AND p.table_name = t.table_name;
COMMENT ON VIEW ods.positions IS
  'Where each total stands. state: live (its log is followed), stale (rows may have changed without a trace in '
  'the log, and are being read again), stopped (see reason), read (loaded from time to time). '
  'committed_at: when the last change was committed at the source. complete_at: what was committed there until then is '
  'counted.';
