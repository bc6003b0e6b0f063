-- The default stays, for an older version that writes beside this one or after it.
ALTER TABLE environment_operator.environment_object ADD COLUMN created_at timestamptz NOT NULL DEFAULT 'epoch';
COMMENT ON COLUMN environment_operator.environment_object.created_at IS
  'When the object was made, in whole seconds; the epoch for one that was mirrored before this was remembered';
-- The candidates for the canonical Local of a company, in the order of the choice.
CREATE INDEX environment_object_local_idx
  ON environment_operator.environment_object (cluster, company_id, operator_made, created_at, id)
  WHERE driver = 'local' AND deleted_at IS NULL;

CREATE TABLE environment_operator.local (
  cluster text NOT NULL,
  company_id uuid NOT NULL,
  object_id uuid,
  generation bigint,
  PRIMARY KEY (cluster, company_id)
);
COMMENT ON TABLE environment_operator.local IS
  'Which Local object of a cluster stands for its company''s row; locked while it is chosen';
COMMENT ON COLUMN environment_operator.local.object_id IS 'The canonical object; null while the cluster has none';
COMMENT ON COLUMN environment_operator.local.generation IS
  'Generation whose fields were written to the row; null until those of a new canonical object are';

CREATE TABLE environment_operator.local_intent (
  nonce uuid PRIMARY KEY DEFAULT gen_random_uuid(),
  cluster text NOT NULL,
  installation text NOT NULL,
  company_id uuid NOT NULL,
  namespace text NOT NULL,
  namespace_uid uuid NOT NULL,
  object_id uuid,
  abandoned_at timestamptz
);
COMMENT ON TABLE environment_operator.local_intent IS
  'Local objects that the operator makes, written down before: the evidence of who has made them';
COMMENT ON COLUMN environment_operator.local_intent.nonce IS 'Stands in an annotation of the object';
COMMENT ON COLUMN environment_operator.local_intent.object_id IS 'The object that was found with the nonce';
COMMENT ON COLUMN environment_operator.local_intent.abandoned_at IS 'When the API server would not have the object there';
CREATE UNIQUE INDEX local_intent_standing_idx ON environment_operator.local_intent (cluster, installation, company_id)
  WHERE object_id IS NULL AND abandoned_at IS NULL;
-- An abandoned intent is taken up again, so that a Namespace that refuses the object does not fill the table.
CREATE UNIQUE INDEX local_intent_namespace_idx
  ON environment_operator.local_intent (cluster, installation, company_id, namespace_uid) WHERE object_id IS NULL;
