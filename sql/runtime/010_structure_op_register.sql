-- runtime 010: registers the gate of structure operations, closed.
-- Idempotent: a switch that exists keeps its value, so running this never closes or opens.
-- Requires: migration 003

BEGIN;
SET LOCAL ROLE iu_owner;

INSERT INTO public.dot_config (key, value, description)
VALUES ('iu_core.structure_op_enabled', 'false', 'Structure operations may run')
ON CONFLICT (key) DO NOTHING;

COMMIT;
