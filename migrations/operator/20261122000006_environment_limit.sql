-- How many leases a row admits; no line: any number. Of several objects that stand for one row the lowest limit counts.
CREATE VIEW environment_operator.environment_limit AS
  SELECT environment_id, min(max_active_leases) AS max_active_leases
  FROM environment_operator.environment_object
  WHERE deleted_at IS NULL AND max_active_leases IS NOT NULL
  GROUP BY environment_id;
COMMENT ON VIEW environment_operator.environment_limit IS 'Limits of active leases by environment, as the live objects set them';
