-- fn_iu_structure_op_enact ends every operation: it counts the tree's version up, appends the
-- event, and writes the row of the operation and its supersedes edges.
--
-- The event comes before the row that names it, because that row is append-only and could not
-- learn its event_ref later. All of it is one transaction with the change: there is no moment
-- at which one of them stands without the others.

CREATE OR REPLACE FUNCTION public.fn_iu_structure_op_enact(
  p_kind text, p_event_type text, p_tree public.iu_tree, p_subject_id uuid, p_doc_code text,
  p_actor text, p_reason text, p_arguments jsonb, p_body jsonb, p_unit_ids uuid[],
  p_successor_ids uuid[], p_predecessor_ids uuid[]
)
RETURNS TABLE (operation_id uuid, event_ref uuid, tree_id uuid, aggregate_version bigint, unit_ids uuid[])
LANGUAGE plpgsql
VOLATILE
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  v_operation_id uuid := public.fn_iu_uuid_v7();
  v_event_ref    uuid;
  v_version      bigint;
BEGIN
  UPDATE public.iu_tree AS tree
     SET version = tree.version + 1
   WHERE tree.tree_id = p_tree.tree_id
  RETURNING tree.version INTO STRICT v_version;

  v_event_ref := public.fn_iu_outbox_append(
    p_event_type, v_operation_id, p_tree.tree_id, v_version, p_tree.incarnation,
    p_doc_code, btrim(p_actor), btrim(p_reason), p_body);

  INSERT INTO public.iu_structure_operation
    (id, kind, tree_id, subject_id, arguments, actor, reason, status, event_ref, aggregate_version)
  VALUES
    (v_operation_id, p_kind, p_tree.tree_id, p_subject_id, p_arguments, btrim(p_actor),
     btrim(p_reason), 'enacted', v_event_ref, v_version);

  INSERT INTO public.iu_unit_supersedes (successor_id, predecessor_id, operation_id)
  SELECT successor.id, predecessor.id, v_operation_id
    FROM unnest(p_successor_ids) AS successor (id)
   CROSS JOIN unnest(p_predecessor_ids) AS predecessor (id);

  RETURN QUERY SELECT v_operation_id, v_event_ref, p_tree.tree_id, v_version, p_unit_ids;
END;
$$;

ALTER FUNCTION public.fn_iu_structure_op_enact(
  text, text, public.iu_tree, uuid, text, text, text, jsonb, jsonb, uuid[], uuid[], uuid[]) OWNER TO iu_owner;

COMMENT ON FUNCTION public.fn_iu_structure_op_enact(
  text, text, public.iu_tree, uuid, text, text, text, jsonb, jsonb, uuid[], uuid[], uuid[]) IS
  'Version, event, operation row and supersedes edges of one operation. Internal.';

REVOKE ALL ON FUNCTION public.fn_iu_structure_op_enact(
  text, text, public.iu_tree, uuid, text, text, text, jsonb, jsonb, uuid[], uuid[], uuid[]) FROM PUBLIC;
