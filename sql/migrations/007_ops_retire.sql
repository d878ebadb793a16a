-- 007: the two operations that take one unit out of use: deprecate_piece and replace.

BEGIN;
SET LOCAL ROLE iu_owner;

-- ---------------------------------------------------------------------------------------
-- How a unit gives its place to a piece.
-- Replace is the first that needs it; split and merge of 008 use the same.
-- ---------------------------------------------------------------------------------------

-- >> sql/functions/fn_iu_structure_op_source.sql
-- fn_iu_structure_op_source reads a unit whose place new pieces are about to take, and says no
-- to one that has no place among siblings or may not give it up.
--
-- Called under the lock of the tree's head row.

CREATE OR REPLACE FUNCTION public.fn_iu_structure_op_source(p_unit_id uuid, p_kind text)
RETURNS public.information_unit
LANGUAGE plpgsql
STABLE
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  v_unit public.information_unit := public.fn_iu_unit_living(p_unit_id);
BEGIN
  IF v_unit.parent_id IS NULL THEN
    RAISE EXCEPTION USING
      ERRCODE = 'IU003',
      MESSAGE = format('unit %s is the root of its tree: no %s', v_unit.iu_code, p_kind),
      DETAIL  = 'The new piece would stand beside it, and beside a root there is no place.',
      HINT    = 'Start a tree with add_new_piece and supersedes, then deprecate this one.';
  END IF;
  PERFORM public.fn_iu_unit_refuse_frozen(ARRAY[v_unit.parent_id]);
  RETURN v_unit;
END;
$$;

ALTER FUNCTION public.fn_iu_structure_op_source(uuid, text) OWNER TO iu_owner;

COMMENT ON FUNCTION public.fn_iu_structure_op_source(uuid, text) IS
  'The unit that split, merge or replace takes out of use; IU003, IU005, IU009. Internal.';

REVOKE ALL ON FUNCTION public.fn_iu_structure_op_source(uuid, text) FROM PUBLIC;
-- << sql/functions/fn_iu_structure_op_source.sql

-- >> sql/functions/fn_iu_piece_insert.sql
-- fn_iu_piece_insert makes the unit that a piece {unit_id?, iu_code, content} describes, and
-- returns what the event says of it.
--
-- Every key is looked at for its type: ->> would take the number 7 or an object for a text
-- and store its spelling.

CREATE OR REPLACE FUNCTION public.fn_iu_piece_insert(
  p_piece jsonb, p_source public.information_unit, p_ordinal integer, p_lifecycle text
)
RETURNS jsonb
LANGUAGE plpgsql
VOLATILE
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  v_unit    public.information_unit;
  v_unknown text;
BEGIN
  IF jsonb_typeof(p_piece) IS DISTINCT FROM 'object' THEN
    RAISE EXCEPTION USING
      ERRCODE = 'IU007',
      MESSAGE = 'a piece is an object {unit_id?, iu_code, content}',
      DETAIL  = format('Found %s.', coalesce(left(p_piece::text, 80), 'nothing')),
      HINT    = 'Give iu_code and content; unit_id may be left out.';
  END IF;
  SELECT string_agg(found.key, ', ') INTO v_unknown
    FROM jsonb_object_keys(p_piece) AS found (key)
   WHERE found.key NOT IN ('unit_id', 'iu_code', 'content');
  IF v_unknown IS NOT NULL THEN
    RAISE EXCEPTION USING
      ERRCODE = 'IU007',
      MESSAGE = format('a piece has no %s', v_unknown),
      DETAIL  = 'A key that is not known is a mistake, and would be lost without a word.',
      HINT    = 'A piece is {unit_id?, iu_code, content}.';
  END IF;
  IF coalesce(jsonb_typeof(p_piece -> 'iu_code'), 'null') NOT IN ('string', 'null')
     OR coalesce(p_piece ->> 'unit_id', '') !~* '^([0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12})?$' THEN
    RAISE EXCEPTION USING
      ERRCODE = 'IU010',
      MESSAGE = 'the code or the id of a piece is malformed',
      DETAIL  = format('iu_code is %s, unit_id is %s.',
                       left((p_piece -> 'iu_code')::text, 250), left((p_piece -> 'unit_id')::text, 250)),
      HINT    = 'iu_code is a text, unit_id a UUID.';
  END IF;

  v_unit := public.fn_iu_unit_insert(
    coalesce((nullif(p_piece ->> 'unit_id', ''))::uuid, public.fn_iu_uuid_v7()),
    p_source.tree_id, p_piece ->> 'iu_code', p_source.doc_code, p_source.parent_id, p_ordinal,
    CASE jsonb_typeof(p_piece -> 'content') WHEN 'string' THEN p_piece ->> 'content' END,
    p_lifecycle);

  RETURN jsonb_build_object(
    'unit_id', v_unit.id, 'iu_code', v_unit.iu_code, 'ordinal', v_unit.ordinal,
    'lifecycle', v_unit.lifecycle, 'content_digest', encode(v_unit.content_digest, 'hex'),
    'content_bytes', octet_length(convert_to(v_unit.content, 'UTF8')));
END;
$$;

ALTER FUNCTION public.fn_iu_piece_insert(jsonb, public.information_unit, integer, text) OWNER TO iu_owner;

COMMENT ON FUNCTION public.fn_iu_piece_insert(jsonb, public.information_unit, integer, text) IS
  'Inserts a piece beside its source and returns it as the event carries it; IU007, IU010. Internal.';

REVOKE ALL ON FUNCTION public.fn_iu_piece_insert(jsonb, public.information_unit, integer, text) FROM PUBLIC;
-- << sql/functions/fn_iu_piece_insert.sql

-- >> sql/functions/fn_iu_piece_arguments.sql
-- fn_iu_piece_arguments is a piece as the record of an operation keeps it: the text stands in
-- information_unit, so here its digest is enough.

CREATE OR REPLACE FUNCTION public.fn_iu_piece_arguments(p_piece jsonb)
RETURNS jsonb
LANGUAGE sql
STABLE
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
  SELECT p_piece - 'content' || jsonb_build_object(
           'content_digest', encode(public.fn_iu_content_digest(p_piece ->> 'content'), 'hex'));
$$;

ALTER FUNCTION public.fn_iu_piece_arguments(jsonb) OWNER TO iu_owner;

COMMENT ON FUNCTION public.fn_iu_piece_arguments(jsonb) IS
  'The piece with content replaced by content_digest. Internal.';

REVOKE ALL ON FUNCTION public.fn_iu_piece_arguments(jsonb) FROM PUBLIC;
-- << sql/functions/fn_iu_piece_arguments.sql

-- >> sql/functions/fn_iu_children_adopt.sql
-- fn_iu_children_adopt takes sources out of use and hands their living children to the piece
-- that takes their place: in the order of the sources, then of their ordinals, from 0 on.
--
-- A child that is a source itself goes out of use and stays where it is, as do children that
-- are deprecated already. The new piece has no children yet, so every place is free.
--
-- The children's frozen flags are looked at before anything is written; that the pieces are
-- there already does not matter, because a refusal takes the whole operation back.

CREATE OR REPLACE FUNCTION public.fn_iu_children_adopt(p_source_ids uuid[], p_piece_id uuid)
RETURNS jsonb
LANGUAGE plpgsql
VOLATILE
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  v_child_ids uuid[];
BEGIN
  SELECT coalesce(array_agg(child.id ORDER BY source.position, child.ordinal), '{}') INTO v_child_ids
    FROM unnest(p_source_ids) WITH ORDINALITY AS source (id, position)
    JOIN public.information_unit AS child ON child.parent_id = source.id
   WHERE child.lifecycle <> 'deprecated'
     AND child.id <> ALL (p_source_ids);
  PERFORM public.fn_iu_unit_refuse_frozen(v_child_ids);

  UPDATE public.information_unit AS unit
     SET lifecycle = 'deprecated'
   WHERE unit.id = ANY (p_source_ids);

  UPDATE public.information_unit AS unit
     SET parent_id = p_piece_id, ordinal = moved.position - 1
    FROM unnest(v_child_ids) WITH ORDINALITY AS moved (id, position)
   WHERE unit.id = moved.id;

  RETURN coalesce(
    (SELECT jsonb_agg(jsonb_build_object(
              'unit_id', moved.id, 'parent_id', p_piece_id, 'ordinal', moved.position - 1)
              ORDER BY moved.position)
       FROM unnest(v_child_ids) WITH ORDINALITY AS moved (id, position)),
    '[]');
END;
$$;

ALTER FUNCTION public.fn_iu_children_adopt(uuid[], uuid) OWNER TO iu_owner;

COMMENT ON FUNCTION public.fn_iu_children_adopt(uuid[], uuid) IS
  'Deprecates the sources, moves their living children to the piece; returns moved_children as the event carries them. IU005. Internal.';

REVOKE ALL ON FUNCTION public.fn_iu_children_adopt(uuid[], uuid) FROM PUBLIC;
-- << sql/functions/fn_iu_children_adopt.sql

-- ---------------------------------------------------------------------------------------
-- The operations.
-- Nothing is deleted: a unit out of use keeps its row, its place and its history.
-- ---------------------------------------------------------------------------------------

-- >> sql/functions/fn_iu_structure_op_deprecate_piece.sql
-- fn_iu_structure_op_deprecate_piece takes a unit out of use. It keeps its row, its place and
-- its ordinal; exports leave it out.
--
-- Bottom-up only: a unit with living children is refused, so nothing living ever hangs below
-- something that is not.
--
-- Lock order: gate, then the tree's head row. Under it no child can come in between the count
-- and the update.

CREATE OR REPLACE FUNCTION public.fn_iu_structure_op_deprecate_piece(
  p_unit_id uuid, p_actor text, p_reason text
)
RETURNS TABLE (operation_id uuid, event_ref uuid, tree_id uuid, aggregate_version bigint, unit_ids uuid[])
LANGUAGE plpgsql
VOLATILE
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  v_tree     public.iu_tree;
  v_unit     public.information_unit;
  v_children bigint;
BEGIN
  PERFORM public.fn_iu_structure_op_begin(p_actor, p_reason);
  v_tree := public.fn_iu_tree_lock(ARRAY[p_unit_id]);
  v_unit := public.fn_iu_unit_living(p_unit_id);

  SELECT count(*) INTO v_children
    FROM public.information_unit AS child
   WHERE child.parent_id = p_unit_id AND child.lifecycle <> 'deprecated';
  IF v_children > 0 THEN
    RAISE EXCEPTION USING
      ERRCODE = 'IU004',
      MESSAGE = format('unit %s has living children', v_unit.iu_code),
      DETAIL  = format('%s of them.', v_children),
      HINT    = 'Deprecate or move them first, from the bottom up.';
  END IF;

  UPDATE public.information_unit AS unit
     SET lifecycle = 'deprecated'
   WHERE unit.id = p_unit_id;

  RETURN QUERY SELECT done.* FROM public.fn_iu_structure_op_enact(
    'deprecate_piece', 'structure_piece_deprecated', v_tree, p_unit_id, v_unit.doc_code, p_actor, p_reason,
    jsonb_build_object('unit_id', p_unit_id),
    jsonb_build_object(
      'unit_id', v_unit.id, 'iu_code', v_unit.iu_code, 'parent_id', v_unit.parent_id,
      'ordinal', v_unit.ordinal, 'old_lifecycle', v_unit.lifecycle),
    ARRAY[p_unit_id], '{}', '{}') AS done;
END;
$$;

ALTER FUNCTION public.fn_iu_structure_op_deprecate_piece(uuid, text, text) OWNER TO iu_owner;

COMMENT ON FUNCTION public.fn_iu_structure_op_deprecate_piece(uuid, text, text) IS
  'Takes a unit without living children out of use. unit_ids is the unit. Event structure_piece_deprecated.';

REVOKE ALL ON FUNCTION public.fn_iu_structure_op_deprecate_piece(uuid, text, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION public.fn_iu_structure_op_deprecate_piece(uuid, text, text) TO iu_editor;
-- << sql/functions/fn_iu_structure_op_deprecate_piece.sql

-- >> sql/functions/fn_iu_structure_op_replace.sql
-- fn_iu_structure_op_replace puts a new unit in the place of another: right after it, with its
-- living children, its lifecycle and its document; the old one is deprecated.
--
-- For a piece that another piece supersedes. New text for the same piece is a revision and no
-- structure operation.
--
-- Lock order: gate, then the tree's head row.

CREATE OR REPLACE FUNCTION public.fn_iu_structure_op_replace(
  p_unit_id uuid, p_piece jsonb, p_actor text, p_reason text
)
RETURNS TABLE (operation_id uuid, event_ref uuid, tree_id uuid, aggregate_version bigint, unit_ids uuid[])
LANGUAGE plpgsql
VOLATILE
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  v_tree     public.iu_tree;
  v_source   public.information_unit;
  v_piece    jsonb;
  v_piece_id uuid;
  v_moved    jsonb;
BEGIN
  PERFORM public.fn_iu_structure_op_begin(p_actor, p_reason);
  v_tree := public.fn_iu_tree_lock(ARRAY[p_unit_id]);
  v_source := public.fn_iu_structure_op_source(p_unit_id, 'replace');

  PERFORM public.fn_iu_tree_make_room(v_source.parent_id, v_source.ordinal + 1, 1, NULL);
  v_piece := public.fn_iu_piece_insert(p_piece, v_source, v_source.ordinal + 1, v_source.lifecycle);
  v_piece_id := (v_piece ->> 'unit_id')::uuid;
  v_moved := public.fn_iu_children_adopt(ARRAY[p_unit_id], v_piece_id);

  RETURN QUERY SELECT done.* FROM public.fn_iu_structure_op_enact(
    'replace', 'structure_piece_replaced', v_tree, p_unit_id, v_source.doc_code, p_actor, p_reason,
    jsonb_build_object('unit_id', p_unit_id, 'piece', public.fn_iu_piece_arguments(p_piece)),
    jsonb_build_object(
      'unit_id', v_source.id, 'iu_code', v_source.iu_code, 'parent_id', v_source.parent_id,
      'piece', v_piece, 'moved_children', v_moved),
    ARRAY[v_piece_id], ARRAY[v_piece_id], ARRAY[p_unit_id]) AS done;
END;
$$;

ALTER FUNCTION public.fn_iu_structure_op_replace(uuid, jsonb, text, text) OWNER TO iu_owner;

COMMENT ON FUNCTION public.fn_iu_structure_op_replace(uuid, jsonb, text, text) IS
  'Puts the piece {unit_id?, iu_code, content} in the place of a unit. unit_ids is the new unit. Event structure_piece_replaced.';

REVOKE ALL ON FUNCTION public.fn_iu_structure_op_replace(uuid, jsonb, text, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION public.fn_iu_structure_op_replace(uuid, jsonb, text, text) TO iu_editor;
-- << sql/functions/fn_iu_structure_op_replace.sql

COMMIT;
