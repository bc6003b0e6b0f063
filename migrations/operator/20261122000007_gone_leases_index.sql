-- For the retention of rows: the leases whose objects are gone, the longest ended first.
CREATE INDEX lease_object_gone_idx
  ON environment_operator.lease_object (cluster, installation, ended_at) WHERE deleted_at IS NOT NULL;
