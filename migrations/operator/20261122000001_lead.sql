CREATE TABLE environment_operator.cluster (
  cluster text PRIMARY KEY,
  incarnation bigint NOT NULL DEFAULT 1
);
COMMENT ON TABLE environment_operator.cluster IS 'Clusters whose objects are mirrored here';
COMMENT ON COLUMN environment_operator.cluster.incarnation IS
  'Raised by hand after an etcd restore: resourceVersions compare only within one incarnation';

CREATE TABLE environment_operator.lead (
  cluster text NOT NULL,
  installation text NOT NULL,
  epoch bigint NOT NULL,
  holder text NOT NULL,
  expires_at timestamptz NOT NULL,
  PRIMARY KEY (cluster, installation),
  -- A takeover changes this key and so waits for the batches that hold FOR KEY SHARE; a renewal does not.
  CONSTRAINT lead_epoch_key UNIQUE (cluster, installation, epoch)
);
COMMENT ON TABLE environment_operator.lead IS 'Which replica may write, one row per installation';
COMMENT ON COLUMN environment_operator.lead.epoch IS 'Number of the term; rises with each takeover';
COMMENT ON COLUMN environment_operator.lead.expires_at IS 'End of the term by this clock, unless renewed';
