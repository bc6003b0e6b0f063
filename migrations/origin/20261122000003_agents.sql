-- The workers. Rows are made by the origin's server or by hand, never by the operator.
CREATE TABLE public.agents (
  id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
  company_id uuid NOT NULL REFERENCES public.companies (id),
  name text NOT NULL,
  role text NOT NULL DEFAULT 'general',
  status text NOT NULL DEFAULT 'idle',
  adapter_type text NOT NULL DEFAULT 'process',
  adapter_config jsonb NOT NULL DEFAULT '{}',
  runtime_config jsonb NOT NULL DEFAULT '{}',
  permissions jsonb NOT NULL DEFAULT '{}',
  default_environment_id uuid REFERENCES public.environments (id) ON DELETE SET NULL,
  created_at timestamptz NOT NULL DEFAULT now(),
  updated_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX agents_company_status_idx ON public.agents (company_id, status);
