-- Undoes 009. Every route goes, and who opened and closed it: keep a dump of both tables.

BEGIN;
SET LOCAL ROLE iu_owner;

DROP FUNCTION public.fn_iu_route_deliver(text, uuid, jsonb);
DROP TABLE public.iu_outbound_route_audit;
DROP TABLE public.iu_outbound_route;
DROP FUNCTION public.fn_iu_outbound_route_audit();

COMMIT;
