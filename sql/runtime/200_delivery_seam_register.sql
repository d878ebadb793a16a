-- runtime 200: registers both delivery switches, fail-closed: nothing delivers, no route may.
-- Idempotent: a switch that exists keeps its value, so running this never closes or opens.
-- Requires: migration 013

BEGIN;
SET LOCAL ROLE iu_owner;

INSERT INTO public.dot_config (key, value, description)
VALUES
  ('iu_core.delivery_enabled', 'false', 'Kill switch: events may be delivered'),
  ('iu_core.delivery_live_routes', '', 'Routes that may be live and deliver, separated by commas')
ON CONFLICT (key) DO NOTHING;

COMMIT;
