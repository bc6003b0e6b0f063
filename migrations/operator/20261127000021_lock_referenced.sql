-- Rows that foreign keys refer to and that others may hold: companies, agents, issues, execution workspaces. A check of a
-- foreign key waits for whoever holds the row, and with it the whole batch; so a batch locks them beforehand and leaves out
-- what is taken. The lock needs a right to update, which an attached operator does not have on these tables: the function has
-- its owner's rights. An owner without that right locks nothing, and the foreign keys wait as they always do.
CREATE FUNCTION environment_operator.lock_referenced(target text, ids uuid[], company_ids uuid[]) RETURNS SETOF uuid
LANGUAGE plpgsql STRICT SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  relation regclass := pg_catalog.to_regclass(CASE target
    WHEN 'companies' THEN 'public.companies'
    WHEN 'agents' THEN 'public.agents'
    WHEN 'issues' THEN 'public.issues'
    WHEN 'execution_workspaces' THEN 'public.execution_workspaces'
  END);
BEGIN
  IF relation IS NULL OR NOT has_any_column_privilege(relation, 'SELECT') THEN
    RETURN QUERY SELECT DISTINCT t.id FROM unnest(ids) AS t(id) WHERE t.id IS NOT NULL;
    RETURN;
  END IF;
  RETURN QUERY EXECUTE format(
    'SELECT r.id FROM %s AS r WHERE r.id = ANY ($1) AND (r.id, r.%I) IN (SELECT * FROM unnest($1, $2)) ORDER BY r.id %s',
    relation,
    CASE target WHEN 'companies' THEN 'id' ELSE 'company_id' END,
    CASE WHEN has_any_column_privilege(relation, 'UPDATE') THEN 'FOR KEY SHARE OF r SKIP LOCKED' END
  ) USING ids, company_ids;
END
$$;
COMMENT ON FUNCTION environment_operator.lock_referenced(text, uuid[], uuid[]) IS
  'Locks rows that foreign keys refer to, each of its company, and returns those that no other transaction holds';
