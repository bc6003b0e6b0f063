-- The tenants. As in the origin; its issue_prefix has a default that collides at the second insert, so each writer gives one.
CREATE TABLE public.companies (
  id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
  name text NOT NULL,
  status text NOT NULL DEFAULT 'active',
  issue_prefix text NOT NULL DEFAULT 'PAP',
  created_at timestamptz NOT NULL DEFAULT now(),
  updated_at timestamptz NOT NULL DEFAULT now(),
  CONSTRAINT companies_issue_prefix_key UNIQUE (issue_prefix)
);
