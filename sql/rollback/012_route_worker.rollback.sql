-- Undoes 012. Consumers stop with a missing function; positions and decisions stay.

BEGIN;
SET LOCAL ROLE iu_owner;

DROP FUNCTION public.fn_iu_route_hold(text, text, text, text, text);
DROP FUNCTION public.fn_iu_route_record(
  text, text, text, integer, bigint, bigint, bigint, uuid, jsonb, jsonb);
DROP FUNCTION public.fn_iu_route_record_attempts(
  public.iu_outbound_route, text, text, integer, bigint, bigint, bigint, jsonb);
DROP FUNCTION public.fn_iu_route_record_dead_letters(text, text, text, integer, jsonb, jsonb);
DROP FUNCTION public.fn_iu_route_lane(text, text);
DROP FUNCTION public.fn_iu_route_claim(text, text, text, text, integer[], bigint[], text);
DROP FUNCTION public.fn_iu_route_claim_partitions(text, text, text, text, integer[], bigint[], text);

COMMIT;
