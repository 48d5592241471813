-- What is usual: one version with an unusual number of rows must not set the measure for the next.
CREATE TABLE production_meta.versions (
  version bigint PRIMARY KEY,
  published_at timestamptz NOT NULL,
  row_counts jsonb NOT NULL
);
COMMENT ON TABLE production_meta.versions IS 'The rows per table of the last versions.';
INSERT INTO production_meta.versions
SELECT version, published_at, row_counts FROM production_meta.current;

CREATE TABLE production_meta.deviations (
  audit text PRIMARY KEY,
  line text NOT NULL,
  share numeric NOT NULL,
  message text NOT NULL,
  failed_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE production_meta.deviations IS
  'The limits that hold a line now. share: the figure that is above the limit.';

CREATE TABLE production_meta.acceptances (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  audit text NOT NULL,
  line text NOT NULL,
  share numeric NOT NULL,
  message text NOT NULL,
  reason text NOT NULL,
  accepted_by text NOT NULL,
  accepted_at timestamptz NOT NULL DEFAULT now(),
  used_by bigint
);
COMMENT ON TABLE production_meta.acceptances IS
  'Deviations that a person accepted, each for one publication. used_by: that version.';
