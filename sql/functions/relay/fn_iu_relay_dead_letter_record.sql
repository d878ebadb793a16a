-- fn_iu_relay_dead_letter_record copies one letter of the dead-letter topic into the table.
--
-- The topic is the truth and is read more than once: a letter that is here already stays as it
-- is, so that what became of it is not undone by its being read again. A *later* letter of the
-- same event replaces it and is open again: the relay has met the row once more, after a change
-- of policy or on a topic that was made again.

CREATE OR REPLACE FUNCTION public.fn_iu_relay_dead_letter_record(
  p_outbox_id         bigint,
  p_event_ref         uuid,
  p_event_type        text,
  p_schema_version    integer,
  p_tree_id           uuid,
  p_aggregate_version bigint,
  p_incarnation       integer,
  p_occurred_at       timestamptz,
  p_datum             bytea,
  p_payload_digest    bytea,
  p_reason            text,
  p_detail            text,
  p_policy            text,
  p_topic             text,
  p_topic_id          text,
  p_partition         integer,
  p_offset            bigint,
  p_last_offset       bigint,
  p_recorded_at       timestamptz
)
RETURNS boolean
LANGUAGE plpgsql
VOLATILE
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  INSERT INTO public.iu_relay_dead_letter AS letter
    (outbox_id, event_ref, event_type, schema_version, tree_id, aggregate_version, incarnation,
     occurred_at, datum, payload_digest, reason, detail, policy, topic, topic_id, partition,
     "offset", last_offset, recorded_at, state)
  VALUES
    (p_outbox_id, p_event_ref, p_event_type, p_schema_version, p_tree_id, p_aggregate_version,
     p_incarnation, p_occurred_at, p_datum, p_payload_digest, p_reason, p_detail, p_policy, p_topic,
     p_topic_id, p_partition, p_offset, p_last_offset, p_recorded_at,
     CASE p_policy WHEN 'skip' THEN 'skipped' ELSE 'blocked' END)
      ON CONFLICT (event_ref, incarnation) DO UPDATE
     SET outbox_id = EXCLUDED.outbox_id,
         reason = EXCLUDED.reason,
         detail = EXCLUDED.detail,
         policy = EXCLUDED.policy,
         topic = EXCLUDED.topic,
         topic_id = EXCLUDED.topic_id,
         partition = EXCLUDED.partition,
         "offset" = EXCLUDED."offset",
         last_offset = EXCLUDED.last_offset,
         recorded_at = EXCLUDED.recorded_at,
         state = EXCLUDED.state,
         resolved_at = NULL,
         resolved_by = NULL,
         resolved_reason = NULL
   WHERE CASE WHEN letter.topic_id = EXCLUDED.topic_id
              THEN letter."offset" < EXCLUDED."offset"
              ELSE letter.recorded_at < EXCLUDED.recorded_at END;
  RETURN FOUND;
END;
$$;

ALTER FUNCTION public.fn_iu_relay_dead_letter_record(
  bigint, uuid, text, integer, uuid, bigint, integer, timestamptz, bytea, bytea, text, text, text,
  text, text, integer, bigint, bigint, timestamptz) OWNER TO iu_owner;

COMMENT ON FUNCTION public.fn_iu_relay_dead_letter_record(
  bigint, uuid, text, integer, uuid, bigint, integer, timestamptz, bytea, bytea, text, text, text,
  text, text, integer, bigint, bigint, timestamptz) IS
  'Keeps a letter of the dead-letter topic; false if it, or a later one of its event, is here already.';

REVOKE ALL ON FUNCTION public.fn_iu_relay_dead_letter_record(
  bigint, uuid, text, integer, uuid, bigint, integer, timestamptz, bytea, bytea, text, text, text,
  text, text, integer, bigint, bigint, timestamptz) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION public.fn_iu_relay_dead_letter_record(
  bigint, uuid, text, integer, uuid, bigint, integer, timestamptz, bytea, bytea, text, text, text,
  text, text, integer, bigint, bigint, timestamptz) TO iu_relay;
