-- fn_iu_tree_baseline_load brings in one whole tree that no event has made, at version 0, and
-- writes down what it brought: without that record the tree could not be rebuilt from events.
--
-- The owner's alone. It makes no event and asks no gate, because it changes no structure that
-- anybody has seen: a tree that exists already is refused by the key of its head row.
--
-- Constraints hold most of the shape (one tree, unique places, known parents). They cannot
-- see a ring of units that hang on each other and on no root, so the walk down must reach all.

CREATE OR REPLACE FUNCTION public.fn_iu_tree_baseline_load(p_units jsonb, p_actor text, p_reason text)
RETURNS uuid
LANGUAGE plpgsql
VOLATILE
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  v_tree_id  uuid;
  v_roots    bigint;
  v_units    bigint;
  v_reached  bigint;
  v_baseline jsonb;
BEGIN
  IF nullif(btrim(p_actor), '') IS NULL OR nullif(btrim(p_reason), '') IS NULL THEN
    RAISE EXCEPTION USING
      ERRCODE = 'IU006',
      MESSAGE = 'a baseline needs an actor and a reason',
      HINT    = 'Say who loads it and from where.';
  END IF;

  SELECT count(*), count(*) FILTER (WHERE unit.parent_id IS NULL),
         (array_agg(unit.id) FILTER (WHERE unit.parent_id IS NULL))[1]
    INTO v_units, v_roots, v_tree_id
    FROM jsonb_to_recordset(p_units) AS unit (id uuid, parent_id uuid);
  IF v_roots <> 1 THEN
    RAISE EXCEPTION USING
      ERRCODE = 'IU003',
      MESSAGE = format('a baseline is one tree, and this has %s roots', v_roots),
      DETAIL  = format('%s units, of which %s have no parent_id.', v_units, v_roots),
      HINT    = 'Load each tree with a call of its own.';
  END IF;

  INSERT INTO public.iu_tree (tree_id, version) VALUES (v_tree_id, 0);

  INSERT INTO public.information_unit
    (id, tree_id, iu_code, doc_code, parent_id, ordinal, content, content_digest, lifecycle, frozen)
  SELECT unit.id, v_tree_id, unit.iu_code, unit.doc_code, unit.parent_id, unit.ordinal,
         unit.content, public.fn_iu_content_digest(unit.content), unit.lifecycle,
         coalesce(unit.frozen, false)
    FROM jsonb_to_recordset(p_units) AS unit
         (id uuid, iu_code text, doc_code text, parent_id uuid, ordinal integer, content text,
          lifecycle text, frozen boolean);

  WITH RECURSIVE reached AS (
    SELECT v_tree_id AS id
    UNION ALL
    SELECT child.id
      FROM reached JOIN public.information_unit AS child ON child.parent_id = reached.id
  )
  SELECT count(*) INTO v_reached FROM reached;
  IF v_reached <> v_units THEN
    RAISE EXCEPTION USING
      ERRCODE = 'IU002',
      MESSAGE = format('%s of %s units do not hang on the root', v_units - v_reached, v_units),
      DETAIL  = 'Their parents form a ring.',
      HINT    = 'Correct parent_id in the data that was given.';
  END IF;

  SELECT jsonb_agg(jsonb_build_object(
           'id', unit.id, 'parent_id', unit.parent_id, 'ordinal', unit.ordinal,
           'iu_code', unit.iu_code, 'lifecycle', unit.lifecycle,
           'content_digest', encode(unit.content_digest, 'hex')) ORDER BY unit.id)
    INTO v_baseline
    FROM public.information_unit AS unit
   WHERE unit.tree_id = v_tree_id;

  INSERT INTO public.iu_tree_baseline (tree_id, version, units, digest, actor, reason)
  VALUES (v_tree_id, 0, v_baseline, public.fn_iu_tree_baseline_digest(v_baseline),
          btrim(p_actor), btrim(p_reason));
  RETURN v_tree_id;
END;
$$;

ALTER FUNCTION public.fn_iu_tree_baseline_load(jsonb, text, text) OWNER TO iu_owner;

COMMENT ON FUNCTION public.fn_iu_tree_baseline_load(jsonb, text, text) IS
  'Loads one tree, an array of {id, iu_code, doc_code, parent_id, ordinal, content, lifecycle, frozen}, with its baseline; returns its tree_id.';

REVOKE ALL ON FUNCTION public.fn_iu_tree_baseline_load(jsonb, text, text) FROM PUBLIC;
