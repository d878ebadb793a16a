-- Undoes 004. Events that were not published are lost with it: drain the relay first.

BEGIN;
SET LOCAL ROLE iu_owner;

DROP TABLE public.event_outbox;

COMMIT;
