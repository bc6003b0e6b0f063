-- What happened, for people. Its foreign keys hold: whoever deletes a run deletes the run's activity first.
CREATE TABLE public.activity_log (
  id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
  company_id uuid NOT NULL REFERENCES public.companies (id),
  actor_type text NOT NULL DEFAULT 'system',
  actor_id text NOT NULL,
  action text NOT NULL,
  entity_type text NOT NULL,
  entity_id text NOT NULL,
  agent_id uuid REFERENCES public.agents (id),
  run_id uuid REFERENCES public.heartbeat_runs (id),
  details jsonb,
  created_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX activity_log_company_created_idx ON public.activity_log (company_id, created_at);
CREATE INDEX activity_log_run_idx ON public.activity_log (run_id);
CREATE INDEX activity_log_entity_idx ON public.activity_log (entity_type, entity_id);
