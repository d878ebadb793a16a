-- Undoes 010. Every decision and every undelivered record goes: keep a dump of both tables.

BEGIN;
SET LOCAL ROLE iu_owner;

DROP TABLE public.iu_route_dead_letter;
DROP TABLE public.iu_route_attempt;

COMMIT;
