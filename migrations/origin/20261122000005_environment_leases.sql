-- Who holds what. pending_cleanup is not in the set: company-scoped readers throw on it.
CREATE TABLE public.environment_leases (
  id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
  company_id uuid NOT NULL REFERENCES public.companies (id) ON DELETE CASCADE,
  environment_id uuid NOT NULL REFERENCES public.environments (id) ON DELETE CASCADE,
  execution_workspace_id uuid,
  issue_id uuid,
  heartbeat_run_id uuid REFERENCES public.heartbeat_runs (id) ON DELETE SET NULL,
  status text NOT NULL DEFAULT 'active',
  lease_policy text NOT NULL DEFAULT 'ephemeral',
  provider text,
  provider_lease_id text,
  acquired_at timestamptz NOT NULL DEFAULT now(),
  last_used_at timestamptz NOT NULL DEFAULT now(),
  expires_at timestamptz,
  released_at timestamptz,
  failure_reason text,
  cleanup_status text,
  metadata jsonb,
  created_at timestamptz NOT NULL DEFAULT now(),
  updated_at timestamptz NOT NULL DEFAULT now(),
  CONSTRAINT environment_leases_status_check CHECK (status IN ('active', 'released', 'expired', 'failed', 'retained')),
  CONSTRAINT environment_leases_lease_policy_check CHECK (lease_policy IN (
    'ephemeral', 'reuse_by_environment', 'reuse_by_execution_workspace', 'retain_on_failure'
  )),
  CONSTRAINT environment_leases_cleanup_status_check CHECK (cleanup_status IN ('pending', 'success', 'failed'))
);
CREATE INDEX environment_leases_company_environment_status_idx
  ON public.environment_leases (company_id, environment_id, status);
CREATE INDEX environment_leases_company_execution_workspace_idx
  ON public.environment_leases (company_id, execution_workspace_id);
CREATE INDEX environment_leases_company_issue_idx ON public.environment_leases (company_id, issue_id);
CREATE INDEX environment_leases_heartbeat_run_idx ON public.environment_leases (heartbeat_run_id);
CREATE INDEX environment_leases_company_last_used_idx ON public.environment_leases (company_id, last_used_at);
CREATE INDEX environment_leases_provider_lease_idx ON public.environment_leases (provider_lease_id);
