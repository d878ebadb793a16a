-- fn_iu_route_record_dead_letters keeps whole what the batch could not deliver.
--
-- Going on past a record is allowed only once it is kept: each decision `failed` or `refused`
-- needs its dead letter and each dead letter its decision, or nothing of the batch is recorded.
-- A record that fails again after a seek back is kept already; what an operator has decided
-- about it since is not undone by its coming again.

CREATE OR REPLACE FUNCTION public.fn_iu_route_record_dead_letters(
  p_route_code   text,
  p_lane         text,
  p_topic        text,
  p_partition    integer,
  p_attempts     jsonb,
  p_dead_letters jsonb
)
RETURNS void
LANGUAGE plpgsql
VOLATILE
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  v_alone bigint[];
BEGIN
  SELECT array_agg(coalesce(attempt."offset", letter."offset")) INTO v_alone
    FROM (SELECT decided."offset"
            FROM jsonb_to_recordset(p_attempts) AS decided ("offset" bigint, decision text)
           WHERE decided.decision IN ('failed', 'refused')) AS attempt
    FULL JOIN jsonb_to_recordset(p_dead_letters) AS letter ("offset" bigint)
         ON letter."offset" = attempt."offset"
   WHERE attempt."offset" IS NULL OR letter."offset" IS NULL;
  IF v_alone IS NOT NULL THEN
    RAISE EXCEPTION USING
      ERRCODE = 'IU032',
      MESSAGE = format('the dead letters recorded for route %L are not consistent', p_route_code),
      DETAIL  = format('Offsets %s have a decision failed or refused, or a dead letter, but not both.', v_alone),
      HINT    = 'Record each undeliverable record with its decision and whole, in one call.';
  END IF;

  INSERT INTO public.iu_route_dead_letter
    (route_code, lane, event_ref, tree_id, topic, partition, "offset", record_at,
     key, value, headers, schema, sqlstate, reason, detail)
  SELECT p_route_code, p_lane, letter.event_ref, letter.tree_id, p_topic, p_partition, letter."offset",
         to_timestamp(letter.timestamp_ms / 1000.0),
         decode(letter.key, 'base64'), decode(letter.value, 'base64'), coalesce(letter.headers, '[]'::jsonb),
         letter.schema, letter.sqlstate, letter.reason, letter.detail
    FROM jsonb_to_recordset(p_dead_letters) AS letter
         (event_ref uuid, tree_id uuid, "offset" bigint, timestamp_ms bigint, key text, value text,
          headers jsonb, schema text, sqlstate text, reason text, detail jsonb)
   ORDER BY letter."offset"
      ON CONFLICT (route_code, lane, topic, partition, "offset") DO NOTHING;
END;
$$;

ALTER FUNCTION public.fn_iu_route_record_dead_letters(text, text, text, integer, jsonb, jsonb)
  OWNER TO iu_owner;

COMMENT ON FUNCTION public.fn_iu_route_record_dead_letters(text, text, text, integer, jsonb, jsonb) IS
  'Keeps the undeliverable records of a batch whole; IU032 unless each has its decision and each such decision its record.';

-- Part of fn_iu_route_record, which has fenced the caller before: nobody else may call it.
REVOKE ALL ON FUNCTION public.fn_iu_route_record_dead_letters(text, text, text, integer, jsonb, jsonb)
  FROM PUBLIC;
