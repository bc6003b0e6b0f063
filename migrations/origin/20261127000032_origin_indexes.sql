-- The origin's server names this index in an ON CONFLICT: its managed sandbox, one for each company. Where rows of before keep it
-- from being made (two that are managed, or a mark that is neither true nor false), all else works without it: the operator
-- deletes no rows, and starts.
DO $$
BEGIN
  CREATE UNIQUE INDEX environments_company_managed_sandbox_idx ON public.environments (company_id)
    WHERE driver = 'sandbox' AND (metadata ->> 'managedByPaperclip')::boolean = true;
EXCEPTION WHEN unique_violation OR invalid_text_representation THEN
  RAISE WARNING 'environments_company_managed_sandbox_idx is not made: %', SQLERRM;
END
$$;
-- The origin's server tells by the name that a prefix is taken, and tries the next one.
ALTER TABLE public.companies RENAME CONSTRAINT companies_issue_prefix_key TO companies_issue_prefix_idx;
CREATE INDEX agents_company_default_environment_idx ON public.agents (company_id, default_environment_id);
