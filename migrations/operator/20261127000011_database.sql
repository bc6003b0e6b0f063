CREATE TABLE environment_operator.database (
  id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
  only_one boolean NOT NULL DEFAULT true UNIQUE CHECK (only_one)
);
COMMENT ON TABLE environment_operator.database IS
  'Which database this is: one row, made once. A backup takes it along, so a restored database is the same one';
INSERT INTO environment_operator.database DEFAULT VALUES;
