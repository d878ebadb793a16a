-- Undoes runtime 200: deletes both delivery switches. A missing switch is a closed one.

BEGIN;
SET LOCAL ROLE iu_owner;

DELETE FROM public.dot_config AS config
 WHERE config.key IN ('iu_core.delivery_enabled', 'iu_core.delivery_live_routes');

COMMIT;
