-- For the sweep: the leases that have ended and whose provider's resources wait for their removal.
CREATE INDEX lease_object_pending_cleanup_idx
  ON environment_operator.lease_object (cluster, installation, id) WHERE ended_status = 'pending_cleanup';
