-- fn_iu_route_record moves the position of a partition over a batch, and writes down what was
-- decided on it: the last statement of the transaction that delivered the batch.
--
-- Offset, decisions, dead letters and the projection rows stand or fall together, so a crash
-- at any point repeats the batch or finds it done.  The position moves by compare-and-set on
-- epoch and offset: an owner that was replaced, or a batch that was recorded already, changes
-- no row, raises IU031, and takes with it what its transaction had delivered.
--
-- Lock order: the gate's advisory lock, shared; the route; the position; the hold.  The delivery
-- before it in the transaction has taken the first two in this order already.

CREATE OR REPLACE FUNCTION public.fn_iu_route_record(
  p_route_code     text,
  p_lane           text,
  p_topic          text,
  p_partition      integer,
  p_owner_epoch    bigint,
  p_from_offset    bigint,
  p_next_offset    bigint,
  p_last_event_ref uuid,
  p_attempts       jsonb,
  p_dead_letters   jsonb
)
RETURNS void
LANGUAGE plpgsql
VOLATILE
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  v_attempts     jsonb := coalesce(p_attempts, '[]'::jsonb);
  v_dead_letters jsonb := coalesce(p_dead_letters, '[]'::jsonb);
  v_route        public.iu_outbound_route;
  v_position     public.iu_route_offset;
BEGIN
  v_route := public.fn_iu_route_lane(p_route_code, p_lane);

  UPDATE public.iu_route_offset AS position
     SET next_offset    = p_next_offset,
         last_event_ref = coalesce(p_last_event_ref, position.last_event_ref),
         recorded_at    = clock_timestamp()
   WHERE position.route_code = p_route_code AND position.lane = p_lane
     AND position.topic = p_topic AND position.partition = p_partition
     AND position.owner_epoch = p_owner_epoch
     AND position.next_offset = p_from_offset
     AND p_next_offset >= p_from_offset;
  IF NOT FOUND THEN
    SELECT position.* INTO v_position
      FROM public.iu_route_offset AS position
     WHERE position.route_code = p_route_code AND position.lane = p_lane
       AND position.topic = p_topic AND position.partition = p_partition;
    RAISE EXCEPTION USING
      ERRCODE = 'IU031',
      MESSAGE = format('partition %s of %s is not this owner''s to record', p_partition, p_topic),
      DETAIL  = format('Route %s, lane %s: epoch %s at offset %s stands (owner %s); epoch %s wanted to move from %s to %s.',
                       p_route_code, p_lane, coalesce(v_position.owner_epoch::text, 'none'),
                       coalesce(v_position.next_offset::text, 'none'), coalesce(v_position.owner, 'none'),
                       p_owner_epoch, p_from_offset, p_next_offset),
      HINT    = 'Another process has claimed it. Drop the batch, and claim the partition again if it is assigned.';
  END IF;

  PERFORM public.fn_iu_route_record_dead_letters(
    p_route_code, p_lane, p_topic, p_partition, v_attempts, v_dead_letters);
  PERFORM public.fn_iu_route_record_attempts(
    v_route, p_lane, p_topic, p_partition, p_owner_epoch, p_from_offset, p_next_offset, v_attempts);

  IF p_next_offset > p_from_offset OR jsonb_array_length(v_attempts) > 0 THEN
    UPDATE public.iu_route_hold AS hold
       SET closed_at = clock_timestamp(), closed_by = 'progress'
     WHERE hold.route_code = p_route_code AND hold.lane = p_lane AND hold.closed_at IS NULL;
  END IF;
END;
$$;

ALTER FUNCTION public.fn_iu_route_record(text, text, text, integer, bigint, bigint, bigint, uuid, jsonb, jsonb)
  OWNER TO iu_owner;

COMMENT ON FUNCTION public.fn_iu_route_record(text, text, text, integer, bigint, bigint, bigint, uuid, jsonb, jsonb) IS
  'Moves the position from p_from_offset to p_next_offset under p_owner_epoch, else IU031, and writes decisions and dead letters.';

REVOKE ALL ON FUNCTION
  public.fn_iu_route_record(text, text, text, integer, bigint, bigint, bigint, uuid, jsonb, jsonb)
  FROM PUBLIC;
-- The consumer has no table privilege: this is the one way its progress gets written.
GRANT EXECUTE ON FUNCTION
  public.fn_iu_route_record(text, text, text, integer, bigint, bigint, bigint, uuid, jsonb, jsonb)
  TO iu_consumer;
