-- Undoes 007. Units and events that the operations made stay.

BEGIN;
SET LOCAL ROLE iu_owner;

DROP FUNCTION public.fn_iu_structure_op_replace(uuid, jsonb, text, text);
DROP FUNCTION public.fn_iu_structure_op_deprecate_piece(uuid, text, text);
DROP FUNCTION public.fn_iu_children_adopt(uuid[], uuid);
DROP FUNCTION public.fn_iu_piece_arguments(jsonb);
DROP FUNCTION public.fn_iu_piece_insert(jsonb, public.information_unit, integer, text);
DROP FUNCTION public.fn_iu_structure_op_source(uuid, text);

COMMIT;
