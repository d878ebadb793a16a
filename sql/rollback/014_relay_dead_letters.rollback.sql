-- Undoes 014. Letters stand on their topic still, and the next 014 can be filled from it; the
-- trail of commands is lost.

BEGIN;
SET LOCAL ROLE iu_owner;

DROP FUNCTION public.fn_iu_relay_action_record(text, jsonb, text);
DROP FUNCTION public.fn_iu_relay_dead_letter_resolve(uuid, integer, text, timestamptz, text, text);
DROP FUNCTION public.fn_iu_relay_dead_letter_record(
  bigint, uuid, text, integer, uuid, bigint, integer, timestamptz, bytea, bytea, text, text, text,
  text, text, integer, bigint, bigint, timestamptz);
DROP FUNCTION public.fn_iu_relay_dead_letter_ends(text);
DROP TABLE public.iu_relay_action;
DROP TABLE public.iu_relay_dead_letter;

COMMIT;
