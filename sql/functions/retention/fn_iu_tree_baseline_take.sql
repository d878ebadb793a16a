-- fn_iu_tree_baseline_take writes down a tree as it stands, if it stands as its events say.
--
-- A baseline is what a rebuild starts from when the events before it have left the outbox.
-- Taken from the tree alone it would make a damage lawful: whatever was changed behind the
-- events' back would be the truth from then on.  So the caller folds the older baseline and
-- the events and gives version and digest of what comes out, and both must be those of the
-- tree under its head lock.  False if the tree has moved on: fold again.
--
-- It stands at the current version and not at the cut: the events up to the cut may go, those
-- between stay in the outbox, and iu verify still folds what is there and holds it to this.
--
-- Lock: the head row, and nothing after it, as every structure operation.

CREATE OR REPLACE FUNCTION public.fn_iu_tree_baseline_take(
  p_tree_id uuid, p_version bigint, p_digest bytea, p_actor text, p_reason text
)
RETURNS boolean
LANGUAGE plpgsql
VOLATILE
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  v_version bigint;
  v_units   jsonb;
  v_digest  bytea;
BEGIN
  SELECT tree.version INTO v_version
    FROM public.iu_tree AS tree
   WHERE tree.tree_id = p_tree_id
     FOR UPDATE;
  IF NOT FOUND THEN
    RAISE EXCEPTION USING
      ERRCODE = 'IU001',
      MESSAGE = format('there is no tree %s', p_tree_id),
      DETAIL  = 'iu_tree has no such head row.',
      HINT    = 'A tree is named by the id of its root unit.';
  END IF;
  IF v_version IS DISTINCT FROM p_version THEN
    RETURN false;
  END IF;

  SELECT jsonb_agg(jsonb_build_object(
           'id', unit.id, 'parent_id', unit.parent_id, 'ordinal', unit.ordinal,
           'iu_code', unit.iu_code, 'lifecycle', unit.lifecycle,
           'content_digest', encode(public.fn_iu_content_digest(unit.content), 'hex')) ORDER BY unit.id)
    INTO v_units
    FROM public.information_unit AS unit
   WHERE unit.tree_id = p_tree_id;
  v_digest := public.fn_iu_tree_baseline_digest(v_units);
  IF v_digest IS DISTINCT FROM p_digest THEN
    RAISE EXCEPTION USING
      ERRCODE = 'IU020',
      MESSAGE = format('tree %s does not stand as its events say', p_tree_id),
      DETAIL  = format('Folded to version %s its digest is %s, the tree''s is %s.',
                       p_version, encode(p_digest, 'hex'), encode(v_digest, 'hex')),
      HINT    = 'See where they differ with: iu verify';
  END IF;

  INSERT INTO public.iu_tree_baseline (tree_id, version, units, digest, actor, reason)
  VALUES (p_tree_id, p_version, v_units, v_digest, btrim(p_actor), btrim(p_reason))
      ON CONFLICT (tree_id, version) DO NOTHING;
  RETURN true;
END;
$$;

ALTER FUNCTION public.fn_iu_tree_baseline_take(uuid, bigint, bytea, text, text) OWNER TO iu_owner;

COMMENT ON FUNCTION public.fn_iu_tree_baseline_take(uuid, bigint, bytea, text, text) IS
  'Writes a baseline of the tree at p_version if its digest is p_digest, else IU020; false if the tree has another version by now.';

REVOKE ALL ON FUNCTION public.fn_iu_tree_baseline_take(uuid, bigint, bytea, text, text) FROM PUBLIC;
