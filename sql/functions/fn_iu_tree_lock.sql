-- fn_iu_tree_lock locks the head row of the one tree that the named units stand in.
--
-- Lock order: the gate's advisory lock (fn_iu_structure_op_begin), then this, then nothing:
-- under it the tree belongs to this transaction, so rows of units need no lock of their own.
-- Locking the rows on the way up instead deadlocks, and checking before locking lets two
-- moves make a ring together.
--
-- The tree of a unit never changes, so it may be read before the lock; everything else about
-- a unit is read after it, in a statement of its own. Units of two trees are refused before
-- anything is locked, so no operation ever holds two heads.

CREATE OR REPLACE FUNCTION public.fn_iu_tree_lock(p_unit_ids uuid[])
RETURNS public.iu_tree
LANGUAGE plpgsql
VOLATILE
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  v_unknown  text;
  v_trees    bigint;
  v_tree_id  uuid;
  v_tree     public.iu_tree;
BEGIN
  SELECT coalesce(named.unit_id::text, 'NULL') INTO v_unknown
    FROM unnest(p_unit_ids) WITH ORDINALITY AS named (unit_id, position)
   WHERE NOT EXISTS (SELECT FROM public.information_unit AS unit WHERE unit.id = named.unit_id)
   ORDER BY named.position
   LIMIT 1;
  IF FOUND THEN
    RAISE EXCEPTION USING
      ERRCODE = 'IU001',
      MESSAGE = format('there is no unit %s', v_unknown),
      DETAIL  = 'Units and parents are named by their id in information_unit.',
      HINT    = 'Check the id; a unit made in a transaction that did not commit does not exist.';
  END IF;

  -- Before the trees are compared: a frozen unit is refused as such, whatever is asked of it.
  PERFORM public.fn_iu_unit_refuse_frozen(p_unit_ids);

  SELECT count(DISTINCT unit.tree_id), (array_agg(unit.tree_id))[1]
    INTO v_trees, v_tree_id
    FROM public.information_unit AS unit
   WHERE unit.id = ANY (p_unit_ids);
  IF v_trees > 1 THEN
    RAISE EXCEPTION USING
      ERRCODE = 'IU003',
      MESSAGE = 'an operation cannot reach across trees',
      DETAIL  = format('The units named stand in %s trees.', v_trees),
      HINT    = 'Add the piece in the other tree with supersedes, then deprecate it here.';
  END IF;

  SELECT tree.* INTO STRICT v_tree
    FROM public.iu_tree AS tree
   WHERE tree.tree_id = v_tree_id
     FOR UPDATE;
  PERFORM public.fn_iu_tree_expect(v_tree.tree_id, v_tree.version);
  RETURN v_tree;
END;
$$;

ALTER FUNCTION public.fn_iu_tree_lock(uuid[]) OWNER TO iu_owner;

COMMENT ON FUNCTION public.fn_iu_tree_lock(uuid[]) IS
  'Locks and returns the head of the one tree of these units; IU001, IU003, IU005, IU008. Internal.';

REVOKE ALL ON FUNCTION public.fn_iu_tree_lock(uuid[]) FROM PUBLIC;
