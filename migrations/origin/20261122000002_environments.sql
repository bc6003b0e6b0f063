-- The places where runs may execute. The CHECKs hold the closed sets that the origin's readers insist on.
CREATE TABLE public.environments (
  id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
  company_id uuid NOT NULL REFERENCES public.companies (id) ON DELETE CASCADE,
  name text NOT NULL,
  description text,
  driver text NOT NULL DEFAULT 'local',
  status text NOT NULL DEFAULT 'active',
  config jsonb NOT NULL DEFAULT '{}',
  metadata jsonb,
  created_at timestamptz NOT NULL DEFAULT now(),
  updated_at timestamptz NOT NULL DEFAULT now(),
  CONSTRAINT environments_driver_check CHECK (driver IN ('local', 'ssh', 'sandbox', 'plugin')),
  CONSTRAINT environments_status_check CHECK (status IN ('active', 'archived'))
);
CREATE INDEX environments_company_status_idx ON public.environments (company_id, status);
CREATE INDEX environments_company_name_idx ON public.environments (company_id, name);
-- The arbiter of "at most one Local per company".
CREATE UNIQUE INDEX environments_company_driver_idx ON public.environments (company_id, driver) WHERE driver = 'local';
