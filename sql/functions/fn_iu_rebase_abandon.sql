-- fn_iu_rebase_abandon gives up the events of one tree that stand on the topic and not in this
-- database: it writes down which, and lets the tree go on in a new incarnation.
--
-- Versions go on from where the tree stands; the incarnation says that a version which comes
-- again is another event. It exceeds every incarnation that was ever published for the tree:
-- the caller names the highest on the topic, because a database restored twice has forgotten
-- the first time.
--
-- A tree that was made after the backup does not exist here. Its events are written down all
-- the same, and trg_iu_tree_incarnation gives its number to whoever makes the tree again.
--
-- Called again for the same events it changes nothing and returns the same number.
--
-- Lock order: the caller holds the gate's advisory lock and event_outbox, then this head row.

CREATE OR REPLACE FUNCTION public.fn_iu_rebase_abandon(
  p_tree_id uuid, p_incarnation_seen integer, p_topic text, p_events jsonb, p_reason text
)
RETURNS integer
LANGUAGE plpgsql
VOLATILE
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  v_incarnation integer;
  v_fenced_by   integer;
BEGIN
  IF nullif(btrim(p_reason), '') IS NULL THEN
    RAISE EXCEPTION USING
      ERRCODE = 'IU006',
      MESSAGE = 'giving up events needs a reason',
      HINT    = 'Say why: --reason "..."';
  END IF;

  SELECT tree.incarnation INTO v_incarnation
    FROM public.iu_tree AS tree
   WHERE tree.tree_id = p_tree_id
     FOR UPDATE;
  SELECT greatest(v_incarnation, max(abandoned.fenced_by)) INTO v_incarnation
    FROM public.iu_abandoned_event AS abandoned
   WHERE abandoned.tree_id = p_tree_id;
  v_fenced_by := greatest(v_incarnation, p_incarnation_seen) + 1;

  INSERT INTO public.iu_abandoned_event
    (event_ref, event_type, tree_id, version, incarnation, fenced_by, topic, partition, "offset", digest, reason)
  SELECT given.event_ref, given.event_type, p_tree_id, given.version, given.incarnation, v_fenced_by,
         p_topic, given.partition, given."offset", decode(given.digest, 'hex'), btrim(p_reason)
    FROM jsonb_to_recordset(p_events) AS given
         (event_ref uuid, event_type text, version bigint, incarnation integer, partition integer,
          "offset" bigint, digest text)
   WHERE NOT EXISTS (SELECT FROM public.iu_event AS event WHERE event.event_ref = given.event_ref)
   ORDER BY given."offset"
      ON CONFLICT (event_ref) DO NOTHING;
  IF NOT FOUND THEN
    RETURN v_incarnation;
  END IF;

  UPDATE public.iu_tree AS tree
     SET incarnation = v_fenced_by
   WHERE tree.tree_id = p_tree_id;
  RETURN v_fenced_by;
END;
$$;

ALTER FUNCTION public.fn_iu_rebase_abandon(uuid, integer, text, jsonb, text) OWNER TO iu_owner;

COMMENT ON FUNCTION public.fn_iu_rebase_abandon(uuid, integer, text, jsonb, text) IS
  'Gives up published events of one tree, an array of {event_ref, event_type, version, incarnation, partition, offset, digest}; returns the tree''s incarnation.';

-- The owner's alone: `iu relay rebase` runs as the owner.
REVOKE ALL ON FUNCTION public.fn_iu_rebase_abandon(uuid, integer, text, jsonb, text) FROM PUBLIC;
