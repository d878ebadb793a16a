-- Undoes 008. Units and events that the operations made stay.

BEGIN;
SET LOCAL ROLE iu_owner;

DROP FUNCTION public.fn_iu_structure_op_merge(uuid[], jsonb, text, text);
DROP FUNCTION public.fn_iu_structure_op_split(uuid, jsonb, integer, text, text);

COMMIT;
