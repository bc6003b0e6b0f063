-- The executions of agents. Rows are made by the origin's server or by hand; the operator writes context_snapshot alone.
CREATE TABLE public.heartbeat_runs (
  id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
  company_id uuid NOT NULL REFERENCES public.companies (id),
  agent_id uuid NOT NULL REFERENCES public.agents (id),
  invocation_source text NOT NULL DEFAULT 'on_demand',
  status text NOT NULL DEFAULT 'queued',
  started_at timestamptz,
  finished_at timestamptz,
  error text,
  context_snapshot jsonb,
  created_at timestamptz NOT NULL DEFAULT now(),
  updated_at timestamptz NOT NULL DEFAULT now(),
  CONSTRAINT heartbeat_runs_status_check CHECK (status IN (
    'queued', 'scheduled_retry', 'running', 'succeeded', 'failed', 'cancelled', 'timed_out', 'interrupted'
  ))
);
CREATE INDEX heartbeat_runs_company_agent_started_idx ON public.heartbeat_runs (company_id, agent_id, started_at);
