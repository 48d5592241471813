CREATE TABLE serving.tokens (
  id          text PRIMARY KEY,
  digest      bytea NOT NULL,
  name        text NOT NULL,
  scopes      text[] NOT NULL,
  purpose     text NOT NULL,
  per_minute  integer NOT NULL CHECK (per_minute > 0),
  created_at  timestamptz NOT NULL DEFAULT now(),
  expires_at  timestamptz,
  revoked_at  timestamptz
);
COMMENT ON TABLE serving.tokens IS
  'Who may ask the call centre''s API. digest: SHA-256 of the secret part, which is 256 random bits and is kept nowhere. '
  'name: the person or program. purpose: what it looks people up for. per_minute: how many requests it may send.';

CREATE TABLE serving.look_ups (
  id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  at         timestamptz NOT NULL DEFAULT clock_timestamp(),
  token_id   text NOT NULL,
  token_name text NOT NULL,
  resource   text NOT NULL,
  purpose    text NOT NULL,
  subjects   bigint[] NOT NULL
);
COMMENT ON TABLE serving.look_ups IS
  'Every look-up of a person: when, by whom, what was asked, why, and about whom. subjects: the keys of the persons who '
  'were shown; none if nobody was found. The row is committed before the answer goes out. Rows cannot be changed.';

CREATE FUNCTION serving.refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  RAISE EXCEPTION 'serving.look_ups can only be added to' USING ERRCODE = 'insufficient_privilege';
END $$;
CREATE TRIGGER only_added_to BEFORE UPDATE OR DELETE ON serving.look_ups
  FOR EACH ROW EXECUTE FUNCTION serving.refuse();
CREATE TRIGGER never_emptied BEFORE TRUNCATE ON serving.look_ups
  FOR EACH STATEMENT EXECUTE FUNCTION serving.refuse();
