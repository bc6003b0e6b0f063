ALTER TABLE environment_operator.lease_object ADD COLUMN run_ended_at timestamptz, ADD COLUMN held_until timestamptz;
COMMENT ON COLUMN environment_operator.lease_object.run_ended_at IS
  'When the run ended, as far as it tells, else when it was seen to be over or gone; written with the ending';
COMMENT ON COLUMN environment_operator.lease_object.held_until IS
  'When the lease stopped being active; unlike ended_at it stays when a retained lease ends for good';
