CREATE TABLE environment_operator.namespace (
  cluster text NOT NULL,
  uid uuid NOT NULL,
  name text NOT NULL,
  company_id uuid NOT NULL,
  PRIMARY KEY (cluster, uid)
);
COMMENT ON TABLE environment_operator.namespace IS 'Which company a Namespace belongs to, decided once';
COMMENT ON COLUMN environment_operator.namespace.company_id IS
  'Decided with the first row of the Namespace; a later change of its label moves nothing';
