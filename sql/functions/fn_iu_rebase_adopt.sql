-- fn_iu_rebase_adopt puts one event back that stands on the topic and not in this database: it
-- redoes what the operation did, and writes the event and the operation as they were.
--
-- Only an event that tells all of its effect can be redone: structure_reparented and
-- structure_piece_deprecated. The others made pieces and carry only the digests of their texts;
-- no digest gives a text back.
--
-- The tree must stand exactly where the event found it: same incarnation, the version before,
-- the unit in its old place. Then the rules of fn_iu_structure_op_* held when the operation ran
-- and hold still, and fn_iu_tree_make_room, the one rule of shifting, shifts the same siblings.
-- A tree that has gone on since the restore is refused (IU008).
--
-- The datum is made again from the payload by the encoder that made it first, and must have the
-- digest of the record (IU020): what goes back into the outbox is what every consumer has read.
--
-- No gate is asked: the operation passed it when it ran. Lock order: the caller holds the
-- gate's advisory lock and event_outbox, then this head row.

CREATE OR REPLACE FUNCTION public.fn_iu_rebase_adopt(
  p_event_type text, p_payload jsonb, p_digest bytea, p_headers jsonb, p_reason text
)
RETURNS bigint
LANGUAGE plpgsql
VOLATILE
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  v_event_ref uuid := p_payload ->> 'event_ref';
  v_tree_id   uuid := p_payload ->> 'tree_id';
  v_unit_id   uuid := p_payload ->> 'unit_id';
  v_version   bigint := p_payload ->> 'aggregate_version';
  v_tree      public.iu_tree;
  v_unit      public.information_unit;
  v_datum     bytea;
  v_stands    boolean;
  v_id        bigint;
BEGIN
  IF nullif(btrim(p_reason), '') IS NULL THEN
    RAISE EXCEPTION USING
      ERRCODE = 'IU006',
      MESSAGE = 'adopting an event needs a reason',
      HINT    = 'Say why: --reason "..."';
  END IF;

  v_datum := CASE p_event_type
    WHEN 'structure_reparented' THEN public.fn_iu_avro_structure_reparented_v1(p_payload)
    WHEN 'structure_piece_deprecated' THEN public.fn_iu_avro_structure_piece_deprecated_v1(p_payload)
  END;
  IF v_datum IS NULL THEN
    RAISE EXCEPTION USING
      ERRCODE = 'IU023',
      MESSAGE = format('a %s cannot be adopted', p_event_type),
      DETAIL  = format('Event %s carries the digest of a text, and not the text.', v_event_ref),
      HINT    = 'Give it up with --policy abandon, and do the operation again.';
  END IF;
  IF sha256(v_datum) IS DISTINCT FROM p_digest THEN
    RAISE EXCEPTION USING
      ERRCODE = 'IU020',
      MESSAGE = format('event %s does not have the digest of its record', v_event_ref),
      DETAIL  = 'The datum made from its payload is another than the one on the topic.',
      HINT    = 'Give it up with --policy abandon.';
  END IF;

  SELECT tree.* INTO v_tree
    FROM public.iu_tree AS tree
   WHERE tree.tree_id = v_tree_id
     FOR UPDATE;
  SELECT unit.* INTO v_unit
    FROM public.information_unit AS unit
   WHERE unit.id = v_unit_id AND unit.tree_id = v_tree_id;

  v_stands := v_tree.incarnation = (p_payload ->> 'incarnation')::integer
    AND v_tree.version + 1 = v_version
    AND CASE p_event_type
      WHEN 'structure_reparented' THEN
        (v_unit.parent_id, v_unit.ordinal)
          = ((p_payload ->> 'old_parent_id')::uuid, (p_payload ->> 'old_ordinal')::integer)
      WHEN 'structure_piece_deprecated' THEN
        (v_unit.lifecycle, v_unit.ordinal)
          = (p_payload ->> 'old_lifecycle', (p_payload ->> 'ordinal')::integer)
        AND v_unit.parent_id IS NOT DISTINCT FROM (p_payload ->> 'parent_id')::uuid
    END;
  -- Without a tree or a unit everything above is NULL.
  IF v_stands IS NOT TRUE THEN
    RAISE EXCEPTION USING
      ERRCODE = 'IU008',
      MESSAGE = format('tree %s does not stand where event %s found it', v_tree_id, v_event_ref),
      DETAIL  = format('The event is version %s of incarnation %s; the tree stands at version %s of incarnation %s.',
                       v_version, p_payload ->> 'incarnation',
                       coalesce(v_tree.version::text, 'none'), coalesce(v_tree.incarnation::text, 'none')),
      HINT    = 'Give the events of this tree up with --policy abandon.';
  END IF;

  CASE p_event_type
    WHEN 'structure_reparented' THEN
      PERFORM public.fn_iu_tree_make_room(
        (p_payload ->> 'new_parent_id')::uuid, (p_payload ->> 'new_ordinal')::integer, 1, v_unit_id);
    WHEN 'structure_piece_deprecated' THEN
      UPDATE public.information_unit AS unit
         SET lifecycle = 'deprecated'
       WHERE unit.id = v_unit_id;
  END CASE;

  UPDATE public.iu_tree AS tree
     SET version = v_version
   WHERE tree.tree_id = v_tree_id;

  INSERT INTO public.event_outbox
    (event_ref, event_type, schema_version, aggregate_id, aggregate_version, bucket, incarnation,
     payload, datum, payload_digest, headers, occurred_at)
  VALUES
    (v_event_ref, p_event_type, 1, v_tree_id, v_version,
     get_byte(sha256(uuid_send(v_tree_id)), 0), v_tree.incarnation,
     p_payload, v_datum, p_digest, coalesce(p_headers, '{}'), (p_payload ->> 'occurred_at')::timestamptz)
  RETURNING id INTO v_id;

  INSERT INTO public.iu_structure_operation
    (id, kind, tree_id, subject_id, arguments, actor, reason, status, event_ref, aggregate_version)
  VALUES
    ((p_payload ->> 'operation_id')::uuid,
     CASE p_event_type WHEN 'structure_reparented' THEN 'reparent' ELSE 'deprecate_piece' END,
     v_tree_id, v_unit_id,
     jsonb_strip_nulls(jsonb_build_object(
       'unit_id', v_unit_id, 'new_parent_id', p_payload -> 'new_parent_id',
       'ordinal', p_payload -> 'new_ordinal', 'adopted', btrim(p_reason))),
     p_payload ->> 'actor', p_payload ->> 'reason', 'enacted', v_event_ref, v_version);
  RETURN v_id;
END;
$$;

ALTER FUNCTION public.fn_iu_rebase_adopt(text, jsonb, bytea, jsonb, text) OWNER TO iu_owner;

COMMENT ON FUNCTION public.fn_iu_rebase_adopt(text, jsonb, bytea, jsonb, text) IS
  'Redoes a published event that this database does not have, and returns its outbox id; IU008, IU020, IU023.';

-- The owner's alone: `iu relay rebase` runs as the owner.
REVOKE ALL ON FUNCTION public.fn_iu_rebase_adopt(text, jsonb, bytea, jsonb, text) FROM PUBLIC;
