-- 012: what a consumer of a route may do, as functions: claim partitions, record a batch,
-- report a hold. It has no privilege on any table.

BEGIN;
SET LOCAL ROLE iu_owner;

-- ---------------------------------------------------------------------------------------
-- Claim: who owns a partition, where it stands, and what the switches say.
-- ---------------------------------------------------------------------------------------

-- >> sql/functions/delivery/fn_iu_route_claim_partitions.sql
-- fn_iu_route_claim_partitions makes the caller the owner of partitions of one lane.
--
-- Each claim raises the owner epoch, and fn_iu_route_record writes only under the epoch that
-- stands: whoever owned a partition before changes nothing from here on, even if it wakes up
-- much later and still believes in its lease.  A partition that was never claimed starts at
-- the first record the topic still has, because a position nobody chose must not skip one.
--
-- The id of the topic is compared with the one its positions were counted in.  A topic that
-- was made again has offsets of its own, and grown past ours it would be skipped silently.
--
-- The rows are locked in the order of their partitions, so that two processes that claim the
-- same ones queue up instead of waiting for each other.

CREATE OR REPLACE FUNCTION public.fn_iu_route_claim_partitions(
  p_route_code text,
  p_lane       text,
  p_topic      text,
  p_topic_id   text,
  p_partitions integer[],
  p_log_starts bigint[],
  p_owner      text
)
RETURNS jsonb
LANGUAGE plpgsql
VOLATILE
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  v_claimed  jsonb;
  v_topic_id text;
BEGIN
  INSERT INTO public.iu_route_offset
    (route_code, lane, topic, partition, topic_id, start_offset, next_offset, owner)
  SELECT p_route_code, p_lane, p_topic, claim.partition, p_topic_id,
         claim.log_start, claim.log_start, p_owner
    FROM unnest(p_partitions, p_log_starts) AS claim (partition, log_start)
   ORDER BY claim.partition
      ON CONFLICT (route_code, lane, topic, partition) DO NOTHING;

  PERFORM
     FROM public.iu_route_offset AS position
    WHERE position.route_code = p_route_code AND position.lane = p_lane
      AND position.topic = p_topic AND position.partition = ANY (p_partitions)
    ORDER BY position.partition
      FOR UPDATE;

  -- Of every partition, not only of those claimed: one old position is enough to know.
  SELECT position.topic_id INTO v_topic_id
    FROM public.iu_route_offset AS position
   WHERE position.route_code = p_route_code AND position.lane = p_lane
     AND position.topic = p_topic AND position.topic_id <> p_topic_id
   LIMIT 1;
  IF FOUND THEN
    RAISE EXCEPTION USING
      ERRCODE = 'IU030',
      MESSAGE = format('topic %s is not the one that route %L has its positions in', p_topic, p_route_code),
      DETAIL  = format('The positions were counted in topic id %s; the broker now has %s.', v_topic_id, p_topic_id),
      HINT    = format('The topic was made again. See the positions with: iu route show %s', p_route_code);
  END IF;

  WITH claimed AS (
    UPDATE public.iu_route_offset AS position
       SET owner_epoch = position.owner_epoch + 1,
           owner = p_owner,
           claimed_at = clock_timestamp()
     WHERE position.route_code = p_route_code AND position.lane = p_lane
       AND position.topic = p_topic AND position.partition = ANY (p_partitions)
    RETURNING position.partition, position.next_offset, position.start_offset, position.owner_epoch
  )
  SELECT jsonb_agg(to_jsonb(claimed) ORDER BY claimed.partition) INTO v_claimed FROM claimed;
  RETURN v_claimed;
END;
$$;

ALTER FUNCTION public.fn_iu_route_claim_partitions(text, text, text, text, integer[], bigint[], text)
  OWNER TO iu_owner;

COMMENT ON FUNCTION public.fn_iu_route_claim_partitions(text, text, text, text, integer[], bigint[], text) IS
  'Raises the owner epoch of the partitions and returns where they stand; IU030 if the topic was made again.';

-- Part of fn_iu_route_claim, which knows that the route exists: nobody else may call it.
REVOKE ALL ON FUNCTION public.fn_iu_route_claim_partitions(text, text, text, text, integer[], bigint[], text)
  FROM PUBLIC;
-- << sql/functions/delivery/fn_iu_route_claim_partitions.sql

-- >> sql/functions/delivery/fn_iu_route_claim.sql
-- fn_iu_route_claim makes a process the owner of partitions, and tells it where they stand.
--
-- No gate lock is taken: a claim delivers nothing, and a closed gate must not keep a group from
-- standing ready.
--
-- With empty arrays it claims nothing and only looks; route and switches are as stored, NULL
-- where there is none, so that the caller decides from the same values as the gates.

CREATE OR REPLACE FUNCTION public.fn_iu_route_claim(
  p_route_code text,
  p_lane       text,
  p_topic      text,
  p_topic_id   text,
  p_partitions integer[],
  p_log_starts bigint[],
  p_owner      text
)
RETURNS jsonb
LANGUAGE plpgsql
VOLATILE
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  v_route    jsonb;
  v_switches jsonb;
  v_claimed  jsonb;
BEGIN
  SELECT jsonb_build_object(
           'route_code', route.route_code, 'event_type', route.event_type,
           'target_kind', route.target_kind, 'target_ref', route.target_ref,
           'enabled', route.enabled, 'dry_run', route.dry_run)
    INTO v_route
    FROM public.iu_outbound_route AS route
   WHERE route.route_code = p_route_code;

  SELECT jsonb_build_object(
           'delivery_enabled',
           max(config.value) FILTER (WHERE config.key = 'iu_core.delivery_enabled'),
           'live_routes',
           max(config.value) FILTER (WHERE config.key = 'iu_core.delivery_live_routes'))
    INTO v_switches
    FROM public.dot_config AS config
   WHERE config.key IN ('iu_core.delivery_enabled', 'iu_core.delivery_live_routes');

  IF coalesce(cardinality(p_partitions), 0) > 0 THEN
    IF v_route IS NULL THEN
      RAISE insufficient_privilege USING
        MESSAGE = format('route %L is not registered', p_route_code),
        DETAIL  = 'iu_outbound_route has no such route_code, so nothing may be claimed for it.',
        HINT    = 'See the registered ones with: iu route list';
    END IF;

    v_claimed := public.fn_iu_route_claim_partitions(
      p_route_code, p_lane, p_topic, p_topic_id, p_partitions, p_log_starts, p_owner);
  END IF;

  RETURN jsonb_build_object(
    'route', v_route, 'switches', v_switches, 'partitions', coalesce(v_claimed, '[]'::jsonb));
END;
$$;

ALTER FUNCTION public.fn_iu_route_claim(text, text, text, text, integer[], bigint[], text) OWNER TO iu_owner;

COMMENT ON FUNCTION public.fn_iu_route_claim(text, text, text, text, integer[], bigint[], text) IS
  'Claims partitions under a new owner epoch and returns {route, switches, partitions}; IU030 if the topic was made again.';

REVOKE ALL ON FUNCTION public.fn_iu_route_claim(text, text, text, text, integer[], bigint[], text)
  FROM PUBLIC;
-- The consumer has no table privilege: this is how it reads its route, its switches, its position.
GRANT EXECUTE ON FUNCTION public.fn_iu_route_claim(text, text, text, text, integer[], bigint[], text)
  TO iu_consumer;
-- << sql/functions/delivery/fn_iu_route_claim.sql

-- ---------------------------------------------------------------------------------------
-- Record: move a position over a batch, with its decisions and dead letters, or not at all.
-- Its parts stand first; the live lane cannot pass before 013, because no route can be live.
-- ---------------------------------------------------------------------------------------

-- >> sql/functions/delivery/fn_iu_route_lane.sql
-- fn_iu_route_lane lets a transaction record progress in a lane, or refuses it; the route keeps
-- its state until that transaction ends.
--
-- Disabling a route and sending it back to dry-run are closes, as final as the kill switch.
-- So the order is the same: the shared advisory lock first and in a statement of its own, then
-- the route FOR SHARE, under a snapshot that sees the change that was waited for.
--
-- Nothing moves in the live lane while a gate is closed, not even past a record that cannot be
-- read: a hold that advances is no hold.  The dry-run lane delivers nothing and asks no gate.

CREATE OR REPLACE FUNCTION public.fn_iu_route_lane(p_route_code text, p_lane text)
RETURNS public.iu_outbound_route
LANGUAGE plpgsql
VOLATILE
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  v_route public.iu_outbound_route;
BEGIN
  -- 18773 is 'IU' in ASCII, 1 the delivery gate; changes of a route take it exclusively.
  PERFORM pg_advisory_xact_lock_shared(18773, 1);

  SELECT route.* INTO v_route
    FROM public.iu_outbound_route AS route
   WHERE route.route_code = p_route_code
     FOR SHARE;
  IF NOT FOUND THEN
    RAISE insufficient_privilege USING
      MESSAGE = format('route %L is not registered', p_route_code),
      DETAIL  = 'iu_outbound_route has no such route_code.',
      HINT    = 'See the registered ones with: iu route list';
  END IF;

  IF p_lane = 'live' AND v_route.enabled AND NOT v_route.dry_run THEN
    -- Before 013 no route can be live, so this is never reached without its function.
    PERFORM public.fn_iu_route_gate(p_route_code);
  ELSIF p_lane = 'dry_run' AND v_route.enabled AND v_route.dry_run THEN
    NULL;
  ELSE
    RAISE insufficient_privilege USING
      MESSAGE = format('route %L does not run in lane %L', p_route_code, p_lane),
      DETAIL  = format('It is enabled=%s, dry_run=%s.', v_route.enabled, v_route.dry_run),
      HINT    = CASE p_lane
                  WHEN 'live' THEN format('Make it live with: iu route enable %s --reason "..."', p_route_code)
                  ELSE format('Put it into dry-run with: iu route dry-run %s', p_route_code)
                END;
  END IF;
  RETURN v_route;
END;
$$;

ALTER FUNCTION public.fn_iu_route_lane(text, text) OWNER TO iu_owner;

COMMENT ON FUNCTION public.fn_iu_route_lane(text, text) IS
  'Passes if the route runs in this lane, live with every gate open, and pins that until commit; or raises 42501 or 0A000.';

-- It takes the gate's lock, as fn_iu_delivery_gate does: only functions of the owner call it.
REVOKE ALL ON FUNCTION public.fn_iu_route_lane(text, text) FROM PUBLIC;
-- << sql/functions/delivery/fn_iu_route_lane.sql

-- >> sql/functions/delivery/fn_iu_route_record_dead_letters.sql
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
-- << sql/functions/delivery/fn_iu_route_record_dead_letters.sql

-- >> sql/functions/delivery/fn_iu_route_record_attempts.sql
-- fn_iu_route_record_attempts writes the decisions of one batch, one per record decided on.
--
-- The ledger must not say more than happened.  `sent` is believed only with the projection row
-- before its eyes, of an event of the route's own type, so no process can claim an effect it
-- did not have.  The one `sent` of a (route, event) is held by an index: an event that comes
-- a second time, after a seek back, is counted on the position instead.
--
-- Records of other event types in the batch get no row: they were never this route's to decide.

CREATE OR REPLACE FUNCTION public.fn_iu_route_record_attempts(
  p_route       public.iu_outbound_route,
  p_lane        text,
  p_topic       text,
  p_partition   integer,
  p_owner_epoch bigint,
  p_from_offset bigint,
  p_next_offset bigint,
  p_attempts    jsonb
)
RETURNS void
LANGUAGE plpgsql
VOLATILE
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  v_wrong   text;
  v_written bigint;
BEGIN
  SELECT format('offset %s: %s', attempt."offset", string_agg(attempt.decision, ' and ')) INTO v_wrong
    FROM jsonb_to_recordset(p_attempts) AS attempt ("offset" bigint, decision text)
   GROUP BY attempt."offset"
  HAVING (attempt."offset" >= p_from_offset AND attempt."offset" < p_next_offset) IS NOT TRUE
      OR bool_and(attempt.decision IN ('refused', 'failed')
                  OR attempt.decision = CASE p_lane WHEN 'live' THEN 'sent' ELSE 'dry_run' END) IS NOT TRUE
      OR count(*) > 1
   LIMIT 1;
  IF v_wrong IS NULL AND p_lane = 'live' THEN
    SELECT format('event %s was not delivered', attempt.event_ref) INTO v_wrong
      FROM jsonb_to_recordset(p_attempts) AS attempt (event_ref uuid, decision text)
     WHERE attempt.decision = 'sent'
       AND NOT EXISTS (
         SELECT FROM public.iu_tree_change_log AS change
          WHERE change.event_ref = attempt.event_ref
            AND change.event_type = p_route.event_type)
     LIMIT 1;
  END IF;
  IF v_wrong IS NOT NULL THEN
    RAISE EXCEPTION USING
      ERRCODE = 'IU032',
      MESSAGE = format('the decisions recorded for route %L are not consistent', p_route.route_code),
      DETAIL  = format('%s (lane %s, offsets %s up to %s).', v_wrong, p_lane, p_from_offset, p_next_offset),
      HINT    = 'One decision per offset of the batch; sent only after fn_iu_route_deliver in the same lane.';
  END IF;

  INSERT INTO public.iu_route_attempt
    (route_code, lane, event_ref, decision, final, gate, reason, detail, topic, partition, "offset", owner_epoch)
  SELECT p_route.route_code, p_lane, attempt.event_ref, attempt.decision,
         attempt.decision IN ('sent', 'refused'), attempt.gate, attempt.reason, attempt.detail,
         p_topic, p_partition, attempt."offset", p_owner_epoch
    FROM jsonb_to_recordset(p_attempts) AS attempt
         (event_ref uuid, "offset" bigint, decision text, gate text, reason text, detail jsonb)
   ORDER BY attempt."offset"
      ON CONFLICT (route_code, event_ref) WHERE decision = 'sent' DO NOTHING;
  GET DIAGNOSTICS v_written = ROW_COUNT;

  IF v_written < jsonb_array_length(p_attempts) THEN
    UPDATE public.iu_route_offset AS position
       SET repeats = position.repeats + jsonb_array_length(p_attempts) - v_written
     WHERE position.route_code = p_route.route_code AND position.lane = p_lane
       AND position.topic = p_topic AND position.partition = p_partition;
  END IF;
END;
$$;

ALTER FUNCTION public.fn_iu_route_record_attempts(public.iu_outbound_route, text, text, integer, bigint, bigint, bigint, jsonb)
  OWNER TO iu_owner;

COMMENT ON FUNCTION public.fn_iu_route_record_attempts(public.iu_outbound_route, text, text, integer, bigint, bigint, bigint, jsonb) IS
  'Writes the decisions of a batch; IU032 if one is outside it, doubled, of the other lane, or sent without a projection row.';

-- Part of fn_iu_route_record, which has fenced the caller before: nobody else may call it.
REVOKE ALL ON FUNCTION
  public.fn_iu_route_record_attempts(public.iu_outbound_route, text, text, integer, bigint, bigint, bigint, jsonb)
  FROM PUBLIC;
-- << sql/functions/delivery/fn_iu_route_record_attempts.sql

-- >> sql/functions/delivery/fn_iu_route_record.sql
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
-- << sql/functions/delivery/fn_iu_route_record.sql

-- ---------------------------------------------------------------------------------------
-- Hold: say that a route stands still, and why, once per standstill.
-- ---------------------------------------------------------------------------------------

-- >> sql/functions/delivery/fn_iu_route_hold.sql
-- fn_iu_route_hold says that a route stands still in a lane, at which gate, and why.
--
-- One episode per standstill, not a row per event or per try: all processes of the group touch
-- the one that is open, and progress closes it (fn_iu_route_record).  Another gate or another
-- reason ends it and begins the next, so that the history reads as what was in the way when.
--
-- Two processes that find none open both insert; the index lets one through, and the other,
-- having waited for it, touches the episode it finds.  No gate lock is taken: a hold must be
-- written exactly while the gates are closed, and must never delay one that is closing.

CREATE OR REPLACE FUNCTION public.fn_iu_route_hold(
  p_route_code text,
  p_lane       text,
  p_gate       text,
  p_reason     text,
  p_owner      text
)
RETURNS uuid
LANGUAGE plpgsql
VOLATILE
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  v_open       public.iu_route_hold;
  v_episode_id uuid;
BEGIN
  SELECT hold.* INTO v_open
    FROM public.iu_route_hold AS hold
   WHERE hold.route_code = p_route_code AND hold.lane = p_lane AND hold.closed_at IS NULL
     FOR UPDATE;

  IF FOUND AND (v_open.gate, v_open.reason) IS DISTINCT FROM (p_gate, p_reason) THEN
    UPDATE public.iu_route_hold AS hold
       SET closed_at = clock_timestamp(), closed_by = 'another_reason'
     WHERE hold.episode_id = v_open.episode_id;
  END IF;

  INSERT INTO public.iu_route_hold AS hold (episode_id, route_code, lane, gate, reason, owner)
  VALUES (public.fn_iu_uuid_v7(), p_route_code, p_lane, p_gate, p_reason, p_owner)
      ON CONFLICT (route_code, lane) WHERE closed_at IS NULL
      DO UPDATE SET touched_at = clock_timestamp(), touches = hold.touches + 1, owner = p_owner
  RETURNING hold.episode_id INTO v_episode_id;
  RETURN v_episode_id;
END;
$$;

ALTER FUNCTION public.fn_iu_route_hold(text, text, text, text, text) OWNER TO iu_owner;

COMMENT ON FUNCTION public.fn_iu_route_hold(text, text, text, text, text) IS
  'Opens or touches the one open hold episode of (route, lane) and returns its id; another gate or reason begins a new one.';

REVOKE ALL ON FUNCTION public.fn_iu_route_hold(text, text, text, text, text) FROM PUBLIC;
-- The consumer has no table privilege: this is how it says that it waits, and for what.
GRANT EXECUTE ON FUNCTION public.fn_iu_route_hold(text, text, text, text, text) TO iu_consumer;
-- << sql/functions/delivery/fn_iu_route_hold.sql

COMMIT;
