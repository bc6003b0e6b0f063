CREATE TABLE environment_operator.installation (
  cluster text NOT NULL,
  installation text NOT NULL,
  namespaces text[] NOT NULL,
  started_at timestamptz NOT NULL,
  PRIMARY KEY (cluster, installation)
);
COMMENT ON TABLE environment_operator.installation IS
  'Which namespaces each installation looks after: those of one cluster must not overlap';
COMMENT ON COLUMN environment_operator.installation.namespaces IS 'Empty: all';
COMMENT ON COLUMN environment_operator.installation.started_at IS
  'When a replica of it was last started: it counts as living for one term from then, for it may not lead yet';
