-- fn_iu_outbox_append writes one event: its payload, its Avro datum, and the digest over that.
--
-- The datum is made here, once, where the event is made. Whoever publishes or checks it later
-- moves and compares bytes and needs no contract at hand; and a payload that does not fit its
-- contract takes the change it tells of down with it (IU021), instead of stopping the relay.
--
-- The caller holds the tree's head row. That is what makes ids ascend with versions inside a
-- tree: the identity value is taken under the lock, after the lock of the version before.

CREATE OR REPLACE FUNCTION public.fn_iu_outbox_append(
  p_event_type text, p_operation_id uuid, p_tree_id uuid, p_version bigint, p_incarnation integer,
  p_doc_code text, p_actor text, p_reason text, p_body jsonb
)
RETURNS uuid
LANGUAGE plpgsql
VOLATILE
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  v_event_ref   uuid := public.fn_iu_uuid_v7();
  v_occurred_at timestamptz := clock_timestamp();
  v_traceparent text := nullif(current_setting('iu.traceparent', true), '');
  v_payload     jsonb;
  v_datum       bytea;
BEGIN
  v_payload := jsonb_build_object(
    'event_ref', v_event_ref,
    'occurred_at', to_char(v_occurred_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),
    'tree_id', p_tree_id,
    'incarnation', p_incarnation,
    'aggregate_version', p_version,
    'operation_id', p_operation_id,
    'actor', p_actor,
    'reason', p_reason,
    'doc_code', p_doc_code
  ) || p_body;

  -- A static CASE: an event type that no contract knows cannot be written.
  v_datum := CASE p_event_type
    WHEN 'structure_reparented' THEN public.fn_iu_avro_structure_reparented_v1(v_payload)
    WHEN 'structure_child_added' THEN public.fn_iu_avro_structure_child_added_v1(v_payload)
    WHEN 'structure_piece_deprecated' THEN public.fn_iu_avro_structure_piece_deprecated_v1(v_payload)
    WHEN 'structure_piece_split' THEN public.fn_iu_avro_structure_piece_split_v1(v_payload)
    WHEN 'structure_piece_merged' THEN public.fn_iu_avro_structure_piece_merged_v1(v_payload)
    WHEN 'structure_piece_replaced' THEN public.fn_iu_avro_structure_piece_replaced_v1(v_payload)
  END;
  IF v_datum IS NULL THEN
    RAISE EXCEPTION USING
      ERRCODE = 'IU021',
      MESSAGE = format('no contract for events of type %L', p_event_type),
      DETAIL  = 'The datum cannot be made, so the event and its change are refused.',
      HINT    = 'Event types and their contracts stand in schemas/contracts.toml.';
  END IF;

  INSERT INTO public.event_outbox
    (event_ref, event_type, schema_version, aggregate_id, aggregate_version, bucket, incarnation,
     payload, datum, payload_digest, headers, occurred_at)
  VALUES
    (v_event_ref, p_event_type, 1, p_tree_id, p_version,
     get_byte(sha256(uuid_send(p_tree_id)), 0), p_incarnation,
     v_payload, v_datum, sha256(v_datum),
     CASE WHEN v_traceparent IS NULL THEN '{}'::jsonb
          ELSE jsonb_build_object('traceparent', v_traceparent) END,
     v_occurred_at);
  RETURN v_event_ref;
END;
$$;

ALTER FUNCTION public.fn_iu_outbox_append(text, uuid, uuid, bigint, integer, text, text, text, jsonb)
  OWNER TO iu_owner;

COMMENT ON FUNCTION public.fn_iu_outbox_append(text, uuid, uuid, bigint, integer, text, text, text, jsonb) IS
  'Appends one event with its Avro datum and digest; returns its event_ref. IU021 if the payload breaks its contract. Internal.';

REVOKE ALL ON FUNCTION public.fn_iu_outbox_append(text, uuid, uuid, bigint, integer, text, text, text, jsonb)
  FROM PUBLIC;
