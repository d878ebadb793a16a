-- 006: the two operations that give a unit its place: reparent and add_new_piece.

BEGIN;
SET LOCAL ROLE iu_owner;

-- ---------------------------------------------------------------------------------------
-- What every operation is made of.
-- Here, with the first two that need it; 007 and 008 use the same.
-- ---------------------------------------------------------------------------------------

-- >> sql/functions/fn_iu_unit_refuse_frozen.sql
-- fn_iu_unit_refuse_frozen stops an operation that would touch a frozen unit.
--
-- Touch means: move it, take it out of use, or give it or take from it a child. Its ordinal
-- may rise when a sibling comes in before it: its place in the order stays the same.

CREATE OR REPLACE FUNCTION public.fn_iu_unit_refuse_frozen(p_unit_ids uuid[])
RETURNS void
LANGUAGE plpgsql
STABLE
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  v_code text;
BEGIN
  SELECT unit.iu_code INTO v_code
    FROM public.information_unit AS unit
   WHERE unit.id = ANY (p_unit_ids) AND unit.frozen
   ORDER BY unit.iu_code
   LIMIT 1;
  IF FOUND THEN
    RAISE EXCEPTION USING
      ERRCODE = 'IU005',
      MESSAGE = format('unit %s is frozen', v_code),
      DETAIL  = 'A frozen unit neither moves nor changes, and neither gains nor loses children.',
      HINT    = 'Work on another unit; whether this one may be changed is not decided here.';
  END IF;
END;
$$;

ALTER FUNCTION public.fn_iu_unit_refuse_frozen(uuid[]) OWNER TO iu_owner;

COMMENT ON FUNCTION public.fn_iu_unit_refuse_frozen(uuid[]) IS
  'IU005 if one of the units is frozen. Internal.';

REVOKE ALL ON FUNCTION public.fn_iu_unit_refuse_frozen(uuid[]) FROM PUBLIC;
-- << sql/functions/fn_iu_unit_refuse_frozen.sql

-- >> sql/functions/fn_iu_unit_living.sql
-- fn_iu_unit_living reads a unit that an operation works on, once the tree's head is locked.
--
-- It sees what its caller's statement sees, so the caller must call it in a statement of its
-- own, after the one that waited for the lock: only that one's snapshot is younger than the wait.

CREATE OR REPLACE FUNCTION public.fn_iu_unit_living(p_unit_id uuid)
RETURNS public.information_unit
LANGUAGE plpgsql
STABLE
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  v_unit public.information_unit;
BEGIN
  SELECT unit.* INTO STRICT v_unit
    FROM public.information_unit AS unit
   WHERE unit.id = p_unit_id;
  IF v_unit.lifecycle = 'deprecated' THEN
    RAISE EXCEPTION USING
      ERRCODE = 'IU009',
      MESSAGE = format('unit %s is deprecated already', v_unit.iu_code),
      DETAIL  = 'A deprecated unit keeps its place for good and takes part in nothing.',
      HINT    = 'Name the unit that took its place, if there is one: see iu_unit_supersedes.';
  END IF;
  RETURN v_unit;
END;
$$;

ALTER FUNCTION public.fn_iu_unit_living(uuid) OWNER TO iu_owner;

COMMENT ON FUNCTION public.fn_iu_unit_living(uuid) IS
  'The unit as it stands under the lock of its tree; IU009 if it is deprecated. Internal.';

REVOKE ALL ON FUNCTION public.fn_iu_unit_living(uuid) FROM PUBLIC;
-- << sql/functions/fn_iu_unit_living.sql

-- >> sql/functions/fn_iu_structure_op_begin.sql
-- fn_iu_structure_op_begin is what every operation does first: pass the gate, and say who and why.
--
-- The gate comes before the words are looked at: a closed system tells nobody whether the
-- rest of the call would have been right.

CREATE OR REPLACE FUNCTION public.fn_iu_structure_op_begin(p_actor text, p_reason text)
RETURNS void
LANGUAGE plpgsql
VOLATILE
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  PERFORM public.fn_iu_structure_op_gate();

  IF nullif(btrim(p_actor), '') IS NULL OR nullif(btrim(p_reason), '') IS NULL THEN
    RAISE EXCEPTION USING
      ERRCODE = 'IU006',
      MESSAGE = format('a structure operation needs %s',
                       CASE WHEN nullif(btrim(p_actor), '') IS NULL THEN 'an actor' ELSE 'a reason' END),
      DETAIL  = format('actor is %L, reason is %L.', p_actor, p_reason),
      HINT    = 'Give both: --actor NAME --reason "..."';
  END IF;
END;
$$;

ALTER FUNCTION public.fn_iu_structure_op_begin(text, text) OWNER TO iu_owner;

COMMENT ON FUNCTION public.fn_iu_structure_op_begin(text, text) IS
  'Gate (42501), then actor and reason (IU006). Internal.';

REVOKE ALL ON FUNCTION public.fn_iu_structure_op_begin(text, text) FROM PUBLIC;
-- << sql/functions/fn_iu_structure_op_begin.sql

-- >> sql/functions/fn_iu_tree_expect.sql
-- fn_iu_tree_expect refuses an operation that was planned on another version of the tree.
--
-- Who shows a plan and runs it later sets the version the plan was made from:
--   SELECT set_config('iu.expected_version', '17', true);
-- It is asked at every operation while it is set, so a plan of several sets it before each.
-- Not an argument, because most callers take the tree as it is.

CREATE OR REPLACE FUNCTION public.fn_iu_tree_expect(p_tree_id uuid, p_version bigint)
RETURNS void
LANGUAGE plpgsql
STABLE
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  v_expected bigint := nullif(current_setting('iu.expected_version', true), '')::bigint;
BEGIN
  IF v_expected <> p_version THEN
    RAISE EXCEPTION USING
      ERRCODE = 'IU008',
      MESSAGE = 'the tree has moved since this was planned',
      DETAIL  = format('Tree %s stands at version %s; the plan was made from %s.',
                       p_tree_id, p_version, v_expected),
      HINT    = 'Look at the tree again and plan anew.';
  END IF;
END;
$$;

ALTER FUNCTION public.fn_iu_tree_expect(uuid, bigint) OWNER TO iu_owner;

COMMENT ON FUNCTION public.fn_iu_tree_expect(uuid, bigint) IS
  'IU008 if the setting iu.expected_version is there and is not this version. Internal.';

REVOKE ALL ON FUNCTION public.fn_iu_tree_expect(uuid, bigint) FROM PUBLIC;
-- << sql/functions/fn_iu_tree_expect.sql

-- >> sql/functions/fn_iu_tree_lock.sql
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
-- << sql/functions/fn_iu_tree_lock.sql

-- >> sql/functions/fn_iu_child_place.sql
-- fn_iu_child_place answers at which ordinal a child goes in: the one asked for, or the end.
--
-- Asked for may be anything from 0 to one past the last sibling. Further up would only make a
-- gap that nobody wanted, and each such call would bring the end of the integers nearer. A
-- unit that is moved within its parent does not count as its own sibling, but may stay where
-- it is.

CREATE OR REPLACE FUNCTION public.fn_iu_child_place(p_parent_id uuid, p_ordinal integer, p_moving uuid)
RETURNS integer
LANGUAGE plpgsql
STABLE
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  v_end integer;
  v_own integer;
BEGIN
  SELECT coalesce(max(child.ordinal) FILTER (WHERE child.id IS DISTINCT FROM p_moving) + 1, 0),
         max(child.ordinal) FILTER (WHERE child.id = p_moving)
    INTO v_end, v_own
    FROM public.information_unit AS child
   WHERE child.parent_id = p_parent_id;
  IF p_ordinal IS NULL THEN
    RETURN v_end;
  END IF;
  IF p_ordinal < 0 OR p_ordinal > greatest(v_end, v_own) THEN
    RAISE EXCEPTION USING
      ERRCODE = 'IU011',
      MESSAGE = format('ordinal %s is out of range', p_ordinal),
      DETAIL  = format('Under this parent it may be 0 to %s.', greatest(v_end, v_own)),
      HINT    = 'Leave the ordinal out to append.';
  END IF;
  RETURN p_ordinal;
END;
$$;

ALTER FUNCTION public.fn_iu_child_place(uuid, integer, uuid) OWNER TO iu_owner;

COMMENT ON FUNCTION public.fn_iu_child_place(uuid, integer, uuid) IS
  'The ordinal a child takes under a parent, NULL meaning the end; IU011. Internal.';

REVOKE ALL ON FUNCTION public.fn_iu_child_place(uuid, integer, uuid) FROM PUBLIC;
-- << sql/functions/fn_iu_child_place.sql

-- >> sql/functions/fn_iu_tree_make_room.sql
-- fn_iu_tree_make_room frees p_count ordinals from p_ordinal on, and puts p_moving on the first.
--
-- The rule is fixed, because whoever folds the events must come to the same ordinals without
-- being told them: walk the siblings from p_ordinal upwards; each moves to the higher of its
-- own ordinal and the one after its predecessor's. Only the run that is in the way shifts, and
-- it stops at the first gap that is wide enough. As ordinals are distinct and ascend, the
-- i-th of them lands on the higher of its own ordinal and p_ordinal + p_count + i.
--
-- One statement moves them all, and the moving unit with them: the unique constraint is
-- checked at the end of a statement, and in two the places in between could be taken.

CREATE OR REPLACE FUNCTION public.fn_iu_tree_make_room(
  p_parent_id uuid, p_ordinal integer, p_count integer, p_moving uuid
)
RETURNS void
LANGUAGE plpgsql
VOLATILE
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  WITH place AS (
    SELECT sibling.id,
           greatest(sibling.ordinal,
                    p_ordinal + p_count + row_number() OVER (ORDER BY sibling.ordinal)::integer - 1
           ) AS ordinal
      FROM public.information_unit AS sibling
     WHERE sibling.parent_id = p_parent_id
       AND sibling.ordinal >= p_ordinal
       AND sibling.id IS DISTINCT FROM p_moving
    UNION ALL
    SELECT p_moving, p_ordinal
     WHERE p_moving IS NOT NULL
  )
  UPDATE public.information_unit AS unit
     SET parent_id = p_parent_id, ordinal = place.ordinal
    FROM place
   WHERE unit.id = place.id
     AND (unit.parent_id, unit.ordinal) IS DISTINCT FROM (p_parent_id, place.ordinal);
END;
$$;

ALTER FUNCTION public.fn_iu_tree_make_room(uuid, integer, integer, uuid) OWNER TO iu_owner;

COMMENT ON FUNCTION public.fn_iu_tree_make_room(uuid, integer, integer, uuid) IS
  'Shifts the run of siblings that is in the way of p_count new ones, and places p_moving (or nobody, if NULL). Internal.';

REVOKE ALL ON FUNCTION public.fn_iu_tree_make_room(uuid, integer, integer, uuid) FROM PUBLIC;
-- << sql/functions/fn_iu_tree_make_room.sql

-- >> sql/functions/fn_iu_unit_insert.sql
-- fn_iu_unit_insert makes one unit, on a place that is free.
--
-- A code that is taken is found by the insert itself and not by a look before it: two
-- operations in two trees hold no lock in common, and both would have found it free. ON
-- CONFLICT waits for the other to end and needs no subtransaction, as catching the error would.

CREATE OR REPLACE FUNCTION public.fn_iu_unit_insert(
  p_unit_id uuid, p_tree_id uuid, p_iu_code text, p_doc_code text, p_parent_id uuid,
  p_ordinal integer, p_content text, p_lifecycle text
)
RETURNS public.information_unit
LANGUAGE plpgsql
VOLATILE
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  v_unit public.information_unit;
BEGIN
  IF p_iu_code IS NULL OR p_iu_code !~ '^[^[:space:][:cntrl:]]{1,200}$'
     OR p_doc_code !~ '^[^[:space:][:cntrl:]]{1,200}$' THEN
    RAISE EXCEPTION USING
      ERRCODE = 'IU010',
      MESSAGE = 'the code of a unit is malformed',
      DETAIL  = format('iu_code is %L, doc_code is %L.', left(p_iu_code, 250), left(p_doc_code, 250)),
      HINT    = 'A code is 1 to 200 characters without blanks or control characters.';
  END IF;
  IF p_content IS NULL THEN
    RAISE EXCEPTION USING
      ERRCODE = 'IU007',
      MESSAGE = format('unit %s has no content', p_iu_code),
      DETAIL  = 'content is NULL or is no text.',
      HINT    = 'An empty text is content; give '''' if that is meant.';
  END IF;
  IF EXISTS (SELECT FROM public.information_unit AS unit WHERE unit.id = p_unit_id) THEN
    RAISE EXCEPTION USING
      ERRCODE = 'IU010',
      MESSAGE = format('unit %s exists already', p_unit_id),
      DETAIL  = 'An id is used once and for ever.',
      HINT    = 'Leave the id out and one is made.';
  END IF;

  INSERT INTO public.information_unit AS unit
    (id, tree_id, iu_code, doc_code, parent_id, ordinal, content, content_digest, lifecycle)
  VALUES
    (p_unit_id, p_tree_id, p_iu_code, p_doc_code, p_parent_id, p_ordinal, p_content,
     public.fn_iu_content_digest(p_content), p_lifecycle)
      ON CONFLICT (iu_code) DO NOTHING
  RETURNING unit.* INTO v_unit;
  IF NOT FOUND THEN
    RAISE EXCEPTION USING
      ERRCODE = 'IU010',
      MESSAGE = format('iu_code %s is taken', p_iu_code),
      DETAIL  = 'Codes are unique over all trees, deprecated units included.',
      HINT    = 'Choose another code.';
  END IF;
  RETURN v_unit;
END;
$$;

ALTER FUNCTION public.fn_iu_unit_insert(uuid, uuid, text, text, uuid, integer, text, text) OWNER TO iu_owner;

COMMENT ON FUNCTION public.fn_iu_unit_insert(uuid, uuid, text, text, uuid, integer, text, text) IS
  'Inserts one unit and returns it; IU007, IU010. Internal.';

REVOKE ALL ON FUNCTION public.fn_iu_unit_insert(uuid, uuid, text, text, uuid, integer, text, text) FROM PUBLIC;
-- << sql/functions/fn_iu_unit_insert.sql

-- >> sql/functions/fn_iu_structure_op_enact.sql
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
-- << sql/functions/fn_iu_structure_op_enact.sql

-- ---------------------------------------------------------------------------------------
-- The operations.
-- The editor may execute these and none of the functions above.
-- ---------------------------------------------------------------------------------------

-- >> sql/functions/fn_iu_structure_op_reparent.sql
-- fn_iu_structure_op_reparent moves a unit, with everything below it, to another place of its
-- tree: under another parent, or elsewhere under its own.
--
-- Lock order: gate, then the tree's head row, before anything is read that a move depends on.
-- The walk up from the new parent is safe only under that lock: of two moves that each look
-- fine alone (a under b, b under a), the second one sees the first.

CREATE OR REPLACE FUNCTION public.fn_iu_structure_op_reparent(
  p_unit_id uuid, p_new_parent_id uuid, p_ordinal integer, p_actor text, p_reason text
)
RETURNS TABLE (operation_id uuid, event_ref uuid, tree_id uuid, aggregate_version bigint, unit_ids uuid[])
LANGUAGE plpgsql
VOLATILE
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  v_tree    public.iu_tree;
  v_unit    public.information_unit;
  v_parent  public.information_unit;
  v_ordinal integer;
BEGIN
  PERFORM public.fn_iu_structure_op_begin(p_actor, p_reason);
  v_tree := public.fn_iu_tree_lock(ARRAY[p_unit_id, p_new_parent_id]);
  v_unit := public.fn_iu_unit_living(p_unit_id);
  v_parent := public.fn_iu_unit_living(p_new_parent_id);

  IF v_unit.parent_id IS NULL THEN
    RAISE EXCEPTION USING
      ERRCODE = 'IU003',
      MESSAGE = format('unit %s is the root of its tree and cannot move', v_unit.iu_code),
      DETAIL  = 'The tree is named by its root.',
      HINT    = 'Move what hangs below it.';
  END IF;
  PERFORM public.fn_iu_unit_refuse_frozen(ARRAY[v_unit.parent_id]);

  -- UNION and not UNION ALL: even in a tree that is a ring already the walk would end.
  IF EXISTS (
    WITH RECURSIVE above AS (
      SELECT v_parent.id AS id, v_parent.parent_id AS parent_id
      UNION
      SELECT unit.id, unit.parent_id
        FROM above JOIN public.information_unit AS unit ON unit.id = above.parent_id
    )
    SELECT FROM above WHERE above.id = p_unit_id
  ) THEN
    RAISE EXCEPTION USING
      ERRCODE = 'IU002',
      MESSAGE = format('unit %s cannot move below itself', v_unit.iu_code),
      DETAIL  = format('%s is %s.', v_parent.iu_code,
                       CASE WHEN v_parent.id = v_unit.id THEN 'the unit itself' ELSE 'one of its descendants' END),
      HINT    = 'Move that unit out first.';
  END IF;

  v_ordinal := public.fn_iu_child_place(p_new_parent_id, p_ordinal, p_unit_id);
  PERFORM public.fn_iu_tree_make_room(p_new_parent_id, v_ordinal, 1, p_unit_id);

  RETURN QUERY SELECT done.* FROM public.fn_iu_structure_op_enact(
    'reparent', 'structure_reparented', v_tree, p_unit_id, v_unit.doc_code, p_actor, p_reason,
    jsonb_build_object('unit_id', p_unit_id, 'new_parent_id', p_new_parent_id, 'ordinal', p_ordinal),
    jsonb_build_object(
      'unit_id', v_unit.id, 'iu_code', v_unit.iu_code,
      'old_parent_id', v_unit.parent_id, 'old_ordinal', v_unit.ordinal,
      'new_parent_id', p_new_parent_id, 'new_ordinal', v_ordinal),
    ARRAY[p_unit_id], '{}', '{}') AS done;
END;
$$;

ALTER FUNCTION public.fn_iu_structure_op_reparent(uuid, uuid, integer, text, text) OWNER TO iu_owner;

COMMENT ON FUNCTION public.fn_iu_structure_op_reparent(uuid, uuid, integer, text, text) IS
  'Moves a unit within its tree; p_ordinal NULL appends. unit_ids is the unit. Event structure_reparented.';

REVOKE ALL ON FUNCTION public.fn_iu_structure_op_reparent(uuid, uuid, integer, text, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION public.fn_iu_structure_op_reparent(uuid, uuid, integer, text, text) TO iu_editor;
-- << sql/functions/fn_iu_structure_op_reparent.sql

-- >> sql/functions/fn_iu_structure_op_add_new_piece.sql
-- fn_iu_structure_op_add_new_piece adds a unit under a parent, or starts a tree with it.
--
-- Lock order: gate, then the tree's head row. A new tree has no head to wait for: its row is
-- inserted, and of two that insert the same one the second waits there and is refused.
--
-- p_supersedes may name units of other trees: that is how a piece goes from one tree to
-- another. They are only pointed to, so their trees are not locked.

CREATE OR REPLACE FUNCTION public.fn_iu_structure_op_add_new_piece(
  p_unit_id uuid, p_parent_id uuid, p_ordinal integer, p_iu_code text, p_doc_code text,
  p_content text, p_lifecycle text, p_supersedes uuid[], p_actor text, p_reason text
)
RETURNS TABLE (operation_id uuid, event_ref uuid, tree_id uuid, aggregate_version bigint, unit_ids uuid[])
LANGUAGE plpgsql
VOLATILE
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  v_unit_id    uuid := coalesce(p_unit_id, public.fn_iu_uuid_v7());
  v_lifecycle  text := coalesce(p_lifecycle, 'draft');
  v_doc_code   text := p_doc_code;
  v_ordinal    integer := 0;
  v_supersedes uuid[];
  v_unknown    text;
  v_parent     public.information_unit;
  v_tree       public.iu_tree;
  v_unit       public.information_unit;
BEGIN
  PERFORM public.fn_iu_structure_op_begin(p_actor, p_reason);

  IF v_lifecycle NOT IN ('draft', 'enacted') THEN
    RAISE EXCEPTION USING
      ERRCODE = 'IU009',
      MESSAGE = format('a new piece cannot be %s', v_lifecycle),
      DETAIL  = 'It is born draft or enacted.',
      HINT    = 'Leave the lifecycle out for draft.';
  END IF;

  IF p_parent_id IS NULL THEN
    IF p_ordinal <> 0 THEN
      RAISE EXCEPTION USING
        ERRCODE = 'IU011',
        MESSAGE = format('ordinal %s is out of range', p_ordinal),
        DETAIL  = 'The root of a new tree has no siblings.',
        HINT    = 'Leave the ordinal out.';
    END IF;
    INSERT INTO public.iu_tree AS tree (tree_id)
    VALUES (v_unit_id)
        ON CONFLICT ON CONSTRAINT iu_tree_pk DO NOTHING
    RETURNING tree.* INTO v_tree;
    IF NOT FOUND THEN
      RAISE EXCEPTION USING
        ERRCODE = 'IU010',
        MESSAGE = format('unit %s exists already', v_unit_id),
        DETAIL  = 'It is the root of a tree.',
        HINT    = 'Leave the id out and one is made.';
    END IF;
    PERFORM public.fn_iu_tree_expect(v_tree.tree_id, v_tree.version);
  ELSE
    v_tree := public.fn_iu_tree_lock(ARRAY[p_parent_id]);
    v_parent := public.fn_iu_unit_living(p_parent_id);
    v_doc_code := coalesce(p_doc_code, v_parent.doc_code);
    v_ordinal := public.fn_iu_child_place(p_parent_id, p_ordinal, NULL);
    PERFORM public.fn_iu_tree_make_room(p_parent_id, v_ordinal, 1, NULL);
  END IF;

  -- Each once, in the order given: the event carries a list, the edges are a set.
  SELECT coalesce(array_agg(named.unit_id ORDER BY named.position), '{}'),
         min(coalesce(named.unit_id::text, 'NULL')) FILTER (WHERE NOT EXISTS (
           SELECT FROM public.information_unit AS unit WHERE unit.id = named.unit_id))
    INTO v_supersedes, v_unknown
    FROM (SELECT each.unit_id, min(each.position) AS position
            FROM unnest(p_supersedes) WITH ORDINALITY AS each (unit_id, position)
           GROUP BY each.unit_id) AS named;
  IF v_unknown IS NOT NULL THEN
    RAISE EXCEPTION USING
      ERRCODE = 'IU001',
      MESSAGE = format('there is no unit %s', v_unknown),
      DETAIL  = 'supersedes names units that exist, in whatever tree.',
      HINT    = 'Check the id.';
  END IF;

  v_unit := public.fn_iu_unit_insert(
    v_unit_id, v_tree.tree_id, p_iu_code, v_doc_code, p_parent_id, v_ordinal, p_content, v_lifecycle);

  RETURN QUERY SELECT done.* FROM public.fn_iu_structure_op_enact(
    'add_new_piece', 'structure_child_added', v_tree, v_unit.id, v_unit.doc_code, p_actor, p_reason,
    jsonb_build_object(
      'unit_id', p_unit_id, 'parent_id', p_parent_id, 'ordinal', p_ordinal, 'iu_code', p_iu_code,
      'doc_code', p_doc_code, 'content_digest', encode(v_unit.content_digest, 'hex'),
      'lifecycle', p_lifecycle, 'supersedes', p_supersedes),
    jsonb_build_object(
      'unit_id', v_unit.id, 'iu_code', v_unit.iu_code, 'parent_id', v_unit.parent_id,
      'ordinal', v_unit.ordinal, 'lifecycle', v_unit.lifecycle,
      'content_digest', encode(v_unit.content_digest, 'hex'),
      'content_bytes', octet_length(convert_to(v_unit.content, 'UTF8')),
      'supersedes', to_jsonb(v_supersedes)),
    ARRAY[v_unit.id], ARRAY[v_unit.id], v_supersedes) AS done;
END;
$$;

ALTER FUNCTION public.fn_iu_structure_op_add_new_piece(
  uuid, uuid, integer, text, text, text, text, uuid[], text, text) OWNER TO iu_owner;

COMMENT ON FUNCTION public.fn_iu_structure_op_add_new_piece(
  uuid, uuid, integer, text, text, text, text, uuid[], text, text) IS
  'Adds a unit; p_parent_id NULL starts a tree, p_doc_code NULL takes the parent''s. unit_ids is the new unit. Event structure_child_added.';

REVOKE ALL ON FUNCTION public.fn_iu_structure_op_add_new_piece(
  uuid, uuid, integer, text, text, text, text, uuid[], text, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION public.fn_iu_structure_op_add_new_piece(
  uuid, uuid, integer, text, text, text, text, uuid[], text, text) TO iu_editor;
-- << sql/functions/fn_iu_structure_op_add_new_piece.sql

COMMIT;
