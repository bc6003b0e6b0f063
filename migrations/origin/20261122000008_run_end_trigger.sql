-- Tells the operator that a run has ended. NOTIFY serialises commits, so the trigger fires on the step into a terminal status
-- and on deletion alone; the function does nothing that can fail, for that would fail the origin's own statement.
CREATE FUNCTION environment_operator.notify_run_end() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  PERFORM pg_notify('environment_operator_run_end', OLD.id::text);
  RETURN NULL;
END
$$;
CREATE TRIGGER environment_operator_run_ended AFTER UPDATE OF status ON public.heartbeat_runs
  FOR EACH ROW WHEN (
    OLD.status IS DISTINCT FROM NEW.status
    AND NEW.status IN ('succeeded', 'failed', 'cancelled', 'timed_out', 'interrupted')
  ) EXECUTE FUNCTION environment_operator.notify_run_end();
CREATE TRIGGER environment_operator_run_deleted AFTER DELETE ON public.heartbeat_runs
  FOR EACH ROW EXECUTE FUNCTION environment_operator.notify_run_end();
