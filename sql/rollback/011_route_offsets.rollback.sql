-- Undoes 011. Every position goes: the consumers would start from the earliest record again.

BEGIN;
SET LOCAL ROLE iu_owner;

DROP TABLE public.iu_route_hold;
DROP TABLE public.iu_route_offset;

COMMIT;
