CREATE TABLE identities.people (
  line_of_business text NOT NULL,
  customer_id bigint NOT NULL,
  person_id uuid NOT NULL,
  person_since timestamptz NOT NULL,
  PRIMARY KEY (line_of_business, customer_id)
);
CREATE INDEX ON identities.people (person_id);
COMMENT ON TABLE identities.people IS
  'One row per customer of a line of business: which person it is. A deleted customer keeps the last answer.';
COMMENT ON COLUMN identities.people.line_of_business IS 'Line of business whose customer it is.';
COMMENT ON COLUMN identities.people.customer_id IS 'Key of the customer at the source.';
COMMENT ON COLUMN identities.people.person_id IS
  'The person. It is the same for all customers who are one person, in all lines.';
COMMENT ON COLUMN identities.people.person_since IS
  'When the person was first known. If two people turn out to be one, the older id stays.';

CREATE TABLE identities.records (
  line_of_business text NOT NULL,
  customer_id bigint NOT NULL,
  content uuid NOT NULL,
  PRIMARY KEY (line_of_business, customer_id)
);
COMMENT ON TABLE identities.records IS
  'A hash of what was compared last, for each customer who is there. Delete rows to compare them again.';

CREATE TABLE identities.keys (
  key uuid NOT NULL,
  line_of_business text NOT NULL,
  customer_id bigint NOT NULL,
  is_identifier boolean NOT NULL,
  PRIMARY KEY (key, line_of_business, customer_id)
);
CREATE INDEX ON identities.keys (line_of_business, customer_id);
COMMENT ON TABLE identities.keys IS
  'Hashes of what two customers must have in common to be compared. An identifier is an e-mail address or a phone number.';

CREATE TABLE identities.pairs (
  left_line text NOT NULL,
  left_id bigint NOT NULL,
  right_line text NOT NULL,
  right_id bigint NOT NULL,
  reason text NOT NULL,
  weight double precision NOT NULL,
  probability_pct double precision,
  verdict text,
  PRIMARY KEY (left_line, left_id, right_line, right_id)
);
CREATE INDEX ON identities.pairs (right_line, right_id);
COMMENT ON TABLE identities.pairs IS 'Customers of two lines who may be one person.';
COMMENT ON COLUMN identities.pairs.reason IS 'The best reason: email, phone or likeness.';
COMMENT ON COLUMN identities.pairs.weight IS
  'Evidence in bits: how many times likelier the two records are if they are one person.';
COMMENT ON COLUMN identities.pairs.probability_pct IS
  'Probability that they are one person, before the rules about e-mail and phone. Per cent.';
COMMENT ON COLUMN identities.pairs.verdict IS 'believed, or why not.';

CREATE TABLE identities.decisions (
  left_line text NOT NULL,
  left_id bigint NOT NULL,
  right_line text NOT NULL,
  right_id bigint NOT NULL,
  is_same boolean NOT NULL,
  because text NOT NULL,
  decided_by text NOT NULL DEFAULT current_user,
  decided_at timestamptz NOT NULL DEFAULT now(),
  applied_at timestamptz,
  PRIMARY KEY (left_line, left_id, right_line, right_id),
  CHECK ((left_line, left_id) < (right_line, right_id))
);
COMMENT ON TABLE identities.decisions IS
  'What people of the company decided about two customers. It overrules every comparison.';
COMMENT ON COLUMN identities.decisions.applied_at IS
  'When it was first obeyed. Set it to null after changing a decision.';

CREATE TABLE identities.changes (
  changed_at timestamptz NOT NULL DEFAULT now(),
  kind text NOT NULL CHECK (kind IN ('joined', 'split')),
  was uuid NOT NULL,
  now uuid NOT NULL
);
COMMENT ON TABLE identities.changes IS
  'Ids that customers lost: was, and the one that they have now. After joined, nobody has the old one.';

CREATE TABLE identities._built_with (built_with text NOT NULL);
COMMENT ON TABLE identities._built_with IS
  'The code and the prior of the last build. If they are others, all customers are compared again.';
