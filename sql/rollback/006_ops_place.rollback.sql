-- Undoes 006. Units and events that the operations made stay.

BEGIN;
SET LOCAL ROLE iu_owner;

DROP FUNCTION public.fn_iu_structure_op_add_new_piece(
  uuid, uuid, integer, text, text, text, text, uuid[], text, text);
DROP FUNCTION public.fn_iu_structure_op_reparent(uuid, uuid, integer, text, text);
DROP FUNCTION public.fn_iu_structure_op_enact(
  text, text, public.iu_tree, uuid, text, text, text, jsonb, jsonb, uuid[], uuid[], uuid[]);
DROP FUNCTION public.fn_iu_unit_insert(uuid, uuid, text, text, uuid, integer, text, text);
DROP FUNCTION public.fn_iu_tree_make_room(uuid, integer, integer, uuid);
DROP FUNCTION public.fn_iu_child_place(uuid, integer, uuid);
DROP FUNCTION public.fn_iu_tree_lock(uuid[]);
DROP FUNCTION public.fn_iu_tree_expect(uuid, bigint);
DROP FUNCTION public.fn_iu_structure_op_begin(text, text);
DROP FUNCTION public.fn_iu_unit_living(uuid);
DROP FUNCTION public.fn_iu_unit_refuse_frozen(uuid[]);

COMMIT;
