CREATE TABLE environment_operator.environment_object (
  id uuid PRIMARY KEY,
  environment_id uuid NOT NULL,
  company_id uuid NOT NULL,
  cluster text NOT NULL,
  installation text NOT NULL,
  incarnation bigint NOT NULL,
  namespace text NOT NULL,
  name text NOT NULL,
  rv text NOT NULL,
  generation bigint NOT NULL,
  epoch bigint NOT NULL,
  driver text NOT NULL,
  max_active_leases integer,
  operator_made boolean NOT NULL,
  deleted_at timestamptz
);
COMMENT ON TABLE environment_operator.environment_object IS 'The Environment objects that are or were mirrored here';
COMMENT ON COLUMN environment_operator.environment_object.environment_id IS
  'The row: the object''s uid, except where an existing Local was adopted. No foreign key: it outlives the row';
COMMENT ON COLUMN environment_operator.environment_object.rv IS 'resourceVersion last written: the fence against older versions';
COMMENT ON COLUMN environment_operator.environment_object.epoch IS 'Term in which it was last written';
COMMENT ON COLUMN environment_operator.environment_object.deleted_at IS 'When the object was seen to be gone';
CREATE INDEX environment_object_environment_idx ON environment_operator.environment_object (environment_id);
CREATE INDEX environment_object_live_idx
  ON environment_operator.environment_object (cluster, installation, namespace) WHERE deleted_at IS NULL;
