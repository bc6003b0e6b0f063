-- What each provider's lease has come to, as far as leases of our own objects tell: one row for each, so that a claim finds what
-- is left for it without reading a history. It is an index of candidates: at the claim the lease's own row is what counts.
CREATE TABLE environment_operator.provider_lease (
  company_id uuid NOT NULL,
  provider_lease_id text NOT NULL,
  lease_id uuid NOT NULL,
  environment_id uuid NOT NULL,
  execution_workspace_id uuid,
  last_used_at timestamptz NOT NULL,
  look_after timestamptz,
  PRIMARY KEY (company_id, provider_lease_id)
);
COMMENT ON TABLE environment_operator.provider_lease IS
  'The leases at providers that leases of objects have named, and the lease that named each last';
COMMENT ON COLUMN environment_operator.provider_lease.lease_id IS 'The lease that was used last of those that named it';
COMMENT ON COLUMN environment_operator.provider_lease.look_after IS
  'When a claim may look whether it is left to be taken over; null: it is held, removed or another writer''s';
CREATE INDEX provider_lease_environment_idx ON environment_operator.provider_lease
  (company_id, environment_id, last_used_at DESC, lease_id DESC) WHERE look_after IS NOT NULL;
CREATE INDEX provider_lease_workspace_idx ON environment_operator.provider_lease
  (company_id, environment_id, execution_workspace_id, last_used_at DESC, lease_id DESC) WHERE look_after IS NOT NULL;
CREATE INDEX provider_lease_lease_idx ON environment_operator.provider_lease (lease_id);

-- Brings the rows up to date for leases, by what their rows say now. Names of more than 512 bytes are not remembered: they might
-- not fit into the index. What the driver itself provides (ssh) is never taken over.
CREATE FUNCTION environment_operator.remember_provider_leases(leases uuid[]) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO environment_operator.provider_lease AS known (
    company_id, provider_lease_id, lease_id, environment_id, execution_workspace_id, last_used_at, look_after
  )
  SELECT DISTINCT ON (l.company_id, l.provider_lease_id)
    l.company_id, l.provider_lease_id, l.id, l.environment_id, l.execution_workspace_id, l.last_used_at,
    CASE WHEN l.status IN ('released', 'expired', 'failed') AND coalesce(l.cleanup_status, 'failed') IN ('failed', 'pending')
      THEN '-infinity'::timestamptz END
  FROM public.environment_leases AS l
  WHERE l.id = ANY (leases) AND l.provider_lease_id IS NOT NULL AND octet_length(l.provider_lease_id) <= 512
    AND (l.metadata ->> 'driver') IS DISTINCT FROM 'ssh'
  ORDER BY l.company_id, l.provider_lease_id, l.last_used_at DESC, l.id DESC
  ON CONFLICT (company_id, provider_lease_id) DO UPDATE SET lease_id = EXCLUDED.lease_id,
    environment_id = EXCLUDED.environment_id, execution_workspace_id = EXCLUDED.execution_workspace_id,
    last_used_at = EXCLUDED.last_used_at, look_after = EXCLUDED.look_after
  WHERE (known.lease_id = EXCLUDED.lease_id OR known.last_used_at <= EXCLUDED.last_used_at)
    AND (known.lease_id, known.environment_id, known.execution_workspace_id, known.last_used_at, known.look_after)
      IS DISTINCT FROM (EXCLUDED.lease_id, EXCLUDED.environment_id, EXCLUDED.execution_workspace_id, EXCLUDED.last_used_at,
        EXCLUDED.look_after);
END
$$;

-- Whatever is recorded of a lease (its grant, its ending by whomever, that its object is gone), by whichever version of the
-- operator. With the rights of its owner: an older version's role may have none on the new table.
CREATE FUNCTION environment_operator.lease_object_recorded() RETURNS trigger
  LANGUAGE plpgsql SECURITY DEFINER SET search_path = '' AS $$
BEGIN
  PERFORM environment_operator.remember_provider_leases(ARRAY (SELECT id FROM recorded));
  RETURN NULL;
END
$$;
CREATE FUNCTION environment_operator.lease_object_removed() RETURNS trigger
  LANGUAGE plpgsql SECURITY DEFINER SET search_path = '' AS $$
BEGIN
  DELETE FROM environment_operator.provider_lease WHERE lease_id = ANY (ARRAY (SELECT id FROM removed));
  RETURN NULL;
END
$$;
CREATE TRIGGER lease_object_granted AFTER INSERT ON environment_operator.lease_object
  REFERENCING NEW TABLE AS recorded FOR EACH STATEMENT EXECUTE FUNCTION environment_operator.lease_object_recorded();
CREATE TRIGGER lease_object_recorded AFTER UPDATE ON environment_operator.lease_object
  REFERENCING NEW TABLE AS recorded FOR EACH STATEMENT EXECUTE FUNCTION environment_operator.lease_object_recorded();
CREATE TRIGGER lease_object_removed AFTER DELETE ON environment_operator.lease_object
  REFERENCING OLD TABLE AS removed FOR EACH STATEMENT EXECUTE FUNCTION environment_operator.lease_object_removed();

-- The leases that were granted before: each is read once, now.
SELECT environment_operator.remember_provider_leases(ARRAY (
  SELECT l.id FROM environment_operator.lease_object AS o JOIN public.environment_leases AS l ON l.id = o.id
  WHERE l.provider_lease_id IS NOT NULL
));

-- Who may use the table of leases may use this one: the role of an operator that was there before.
DO $$
DECLARE
  granted record;
BEGIN
  FOR granted IN
    SELECT DISTINCT pg_catalog.quote_ident(role.rolname) AS role, acl.privilege_type AS privilege
    FROM pg_catalog.pg_class AS class
    CROSS JOIN LATERAL pg_catalog.aclexplode(class.relacl) AS acl
    JOIN pg_catalog.pg_roles AS role ON role.oid = acl.grantee
    WHERE class.oid = 'environment_operator.lease_object'::regclass AND acl.grantee <> class.relowner
      AND acl.privilege_type IN ('SELECT', 'INSERT', 'UPDATE', 'DELETE')
  LOOP
    EXECUTE 'GRANT ' || granted.privilege || ' ON environment_operator.provider_lease TO ' || granted.role;
  END LOOP;
END
$$;
