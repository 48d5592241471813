-- A decision that is changed or deleted must be noticed, whoever does it and however.
CREATE TABLE identities._obeyed (
  left_line text NOT NULL,
  left_id bigint NOT NULL,
  right_line text NOT NULL,
  right_id bigint NOT NULL,
  is_same boolean NOT NULL,
  PRIMARY KEY (left_line, left_id, right_line, right_id)
);
COMMENT ON TABLE identities._obeyed IS
  'The decisions of the last build. Where they differ from those of today, the next one decides anew.';
INSERT INTO identities._obeyed
SELECT left_line, left_id, right_line, right_id, is_same
FROM identities.decisions
WHERE applied_at IS NOT NULL;
ALTER TABLE identities.decisions DROP COLUMN applied_at;
