-- Of the Local objects that stand for a company's row only the canonical one of each cluster sets its limit.
CREATE OR REPLACE VIEW environment_operator.environment_limit AS
  SELECT object.environment_id, min(object.max_active_leases) AS max_active_leases
  FROM environment_operator.environment_object AS object
  WHERE object.deleted_at IS NULL AND object.max_active_leases IS NOT NULL
    AND (object.driver <> 'local' OR EXISTS (
      SELECT FROM environment_operator.local AS chosen
      WHERE chosen.cluster = object.cluster AND chosen.company_id = object.company_id AND chosen.object_id = object.id
    ))
  GROUP BY object.environment_id;
