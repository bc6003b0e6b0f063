CREATE SEQUENCE environment_operator.fencing_token;

CREATE TABLE environment_operator.lease_object (
  id uuid PRIMARY KEY,
  company_id uuid NOT NULL,
  environment_id uuid NOT NULL,
  cluster text NOT NULL,
  installation text NOT NULL,
  incarnation bigint NOT NULL,
  namespace text NOT NULL,
  name text NOT NULL,
  rv text NOT NULL,
  generation bigint NOT NULL,
  epoch bigint NOT NULL,
  agent_id uuid,
  run_id uuid,
  run_api_version text,
  run_kind text,
  run_name text,
  run_uid text,
  fencing_token bigint NOT NULL,
  context jsonb NOT NULL,
  metadata_keys text[] NOT NULL,
  ttl_seconds_after_finished integer NOT NULL,
  ended_status text,
  reason text,
  message text,
  ended_at timestamptz,
  deleted_at timestamptz,
  CONSTRAINT lease_object_ending_check CHECK ((ended_status IS NULL) = (reason IS NULL)
    AND (ended_status IS NULL) = (message IS NULL) AND (ended_status IS NULL) = (ended_at IS NULL))
);
COMMENT ON TABLE environment_operator.lease_object IS
  'The lease objects that were granted; id is the object''s uid and the row''s id. No foreign keys: it outlives the rows';
COMMENT ON COLUMN environment_operator.lease_object.rv IS 'resourceVersion last written: the fence against older versions';
COMMENT ON COLUMN environment_operator.lease_object.epoch IS 'Term in which it was last written';
COMMENT ON COLUMN environment_operator.lease_object.agent_id IS 'The run''s agent, else spec.agentId, at the grant';
COMMENT ON COLUMN environment_operator.lease_object.run_id IS
  'Heartbeat run of the grant; stays when the run''s row is deleted and the lease''s heartbeat_run_id becomes null';
COMMENT ON COLUMN environment_operator.lease_object.context IS 'paperclipEnvironment as told to the run at the grant';
COMMENT ON COLUMN environment_operator.lease_object.metadata_keys IS 'Keys of spec.metadata last written to the row';
COMMENT ON COLUMN environment_operator.lease_object.ended_status IS
  'Status of the first ending; retained is replaced by the ending that follows it';
COMMENT ON COLUMN environment_operator.lease_object.deleted_at IS 'When the object was seen to be gone';
CREATE INDEX lease_object_live_idx
  ON environment_operator.lease_object (cluster, installation, namespace) WHERE deleted_at IS NULL;
-- For the sweep: the leases that have not ended for good as far as is recorded.
CREATE INDEX lease_object_held_idx
  ON environment_operator.lease_object (cluster, installation, id) WHERE ended_status IS NULL OR ended_status = 'retained';
