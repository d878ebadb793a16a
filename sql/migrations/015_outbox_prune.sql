-- 015: rows leave the outbox, and only by fn_iu_outbox_prune: bounded, and each leaves a stub.
-- What asks for an event asks for either from here on; what is delivered late comes by value.

BEGIN;
SET LOCAL ROLE iu_owner;

-- ---------------------------------------------------------------------------------------
-- The stub: what must be known of an event for ever, about 150 bytes of it.
-- ---------------------------------------------------------------------------------------

CREATE TABLE public.event_outbox_stub (
  event_ref         uuid NOT NULL,
  event_type        text NOT NULL,
  schema_version    integer NOT NULL,
  aggregate_id      uuid NOT NULL,
  aggregate_version bigint NOT NULL,
  incarnation       integer NOT NULL,
  payload_digest    bytea NOT NULL,
  occurred_at       timestamptz NOT NULL,
  pruned_at         timestamptz NOT NULL DEFAULT clock_timestamp(),
  CONSTRAINT event_outbox_stub_pk PRIMARY KEY (event_ref),
  CONSTRAINT event_outbox_stub_version_uq UNIQUE (aggregate_id, incarnation, aggregate_version),
  CONSTRAINT event_outbox_stub_digest_chk CHECK (octet_length(payload_digest) = 32)
);

COMMENT ON TABLE public.event_outbox_stub IS 'What is left of an event whose row was pruned; append-only.';
COMMENT ON COLUMN public.event_outbox_stub.event_ref IS 'Name of the event, as in the outbox.';
COMMENT ON COLUMN public.event_outbox_stub.event_type IS 'As in the outbox.';
COMMENT ON COLUMN public.event_outbox_stub.schema_version IS
  'Version of the contract: by it a payload is encoded to be compared with the digest.';
COMMENT ON COLUMN public.event_outbox_stub.aggregate_id IS 'The tree.';
COMMENT ON COLUMN public.event_outbox_stub.aggregate_version IS
  '1, 2, 3, … without a hole up to the last one pruned; the outbox goes on from there.';
COMMENT ON COLUMN public.event_outbox_stub.incarnation IS 'As in the outbox.';
COMMENT ON COLUMN public.event_outbox_stub.payload_digest IS 'SHA-256 of the datum, as in the outbox.';
COMMENT ON COLUMN public.event_outbox_stub.occurred_at IS
  'Clock when the event was made; where to look for it on the topic.';
COMMENT ON COLUMN public.event_outbox_stub.pruned_at IS 'Clock when its row was pruned.';

CREATE TRIGGER trg_event_outbox_stub_append_only
  BEFORE UPDATE OR DELETE OR TRUNCATE ON public.event_outbox_stub
  FOR EACH STATEMENT EXECUTE FUNCTION public.fn_iu_append_only();
ALTER TABLE public.event_outbox_stub ENABLE ALWAYS TRIGGER trg_event_outbox_stub_append_only;
COMMENT ON TRIGGER trg_event_outbox_stub_append_only ON public.event_outbox_stub IS
  'The last trace of an event stays.';

-- ---------------------------------------------------------------------------------------
-- Every event, kept or pruned, in one place for those who ask.
-- ---------------------------------------------------------------------------------------

CREATE VIEW public.iu_event AS
  SELECT event.event_ref, event.event_type, event.schema_version, event.aggregate_id,
         event.aggregate_version, event.incarnation, event.bucket, event.payload_digest,
         event.occurred_at, event.id AS outbox_id, event.xid, event.payload,
         NULL::timestamptz AS pruned_at
    FROM public.event_outbox AS event
  UNION ALL
  SELECT stub.event_ref, stub.event_type, stub.schema_version, stub.aggregate_id,
         stub.aggregate_version, stub.incarnation, get_byte(sha256(uuid_send(stub.aggregate_id)), 0)::smallint,
         stub.payload_digest, stub.occurred_at, NULL, NULL, NULL, stub.pruned_at
    FROM public.event_outbox_stub AS stub;

COMMENT ON VIEW public.iu_event IS
  'Every event of this database: the rows of the outbox, and the stubs of those that were pruned.';
COMMENT ON COLUMN public.iu_event.event_ref IS 'Name of the event.';
COMMENT ON COLUMN public.iu_event.event_type IS 'As in the outbox.';
COMMENT ON COLUMN public.iu_event.schema_version IS 'As in the outbox.';
COMMENT ON COLUMN public.iu_event.aggregate_id IS 'The tree.';
COMMENT ON COLUMN public.iu_event.aggregate_version IS 'As in the outbox.';
COMMENT ON COLUMN public.iu_event.incarnation IS 'As in the outbox.';
COMMENT ON COLUMN public.iu_event.bucket IS 'As in the outbox.';
COMMENT ON COLUMN public.iu_event.payload_digest IS 'SHA-256 of the datum.';
COMMENT ON COLUMN public.iu_event.occurred_at IS 'Clock when the event was made.';
COMMENT ON COLUMN public.iu_event.outbox_id IS 'Id of the row; NULL once it is pruned.';
COMMENT ON COLUMN public.iu_event.xid IS 'Transaction that wrote it; NULL once it is pruned.';
COMMENT ON COLUMN public.iu_event.payload IS 'The event; NULL once it is pruned.';
COMMENT ON COLUMN public.iu_event.pruned_at IS 'Clock when its row was pruned; NULL while it is in the outbox.';

GRANT SELECT ON public.event_outbox_stub, public.iu_event TO iu_reader;

-- ---------------------------------------------------------------------------------------
-- The trigger lets one DELETE through: that of fn_iu_outbox_prune. Nothing else changes.
-- ---------------------------------------------------------------------------------------

-- >> sql/functions/fn_iu_append_only.sql
-- fn_iu_append_only refuses the statement that fired it: history is added to, never changed.
--
-- A privilege would not be enough, because the owner and superusers have them all, and a
-- mistake is made by exactly those.  The triggers that call this are ENABLE ALWAYS: a plain
-- trigger sleeps under session_replication_role = replica.
--
-- One statement passes: the DELETE that fn_iu_outbox_prune runs on event_outbox.  It sets the
-- transaction-local flag iu.maintenance, but anybody can set that, and current_user says nothing
-- here, where it is always the owner.  So the call stack is asked as well: the statement must
-- come from inside that function, which runs as its owner and which nobody else may call.  Its
-- name is schema-qualified there, because public is not on its search path, so a function of
-- that name elsewhere is not taken for it.  Whoever forges a stack on purpose could as well
-- disable the trigger: this is held against mistakes, and against every other role.

CREATE OR REPLACE FUNCTION public.fn_iu_append_only()
RETURNS trigger
LANGUAGE plpgsql
VOLATILE
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  v_stack text;
BEGIN
  IF TG_OP = 'DELETE' AND (TG_TABLE_SCHEMA, TG_TABLE_NAME) = ('public', 'event_outbox')
     AND current_setting('iu.maintenance', true) = 'outbox_prune' THEN
    GET DIAGNOSTICS v_stack = PG_CONTEXT;
    IF v_stack ~ '\n[^\n"]* public\.fn_iu_outbox_prune\(text,' THEN
      RETURN NULL;
    END IF;
  END IF;

  RAISE EXCEPTION USING
    ERRCODE = 'IU040',
    MESSAGE = format('%s of %I is refused: it keeps its history', TG_OP, TG_TABLE_NAME),
    DETAIL  = 'Rows of this table are the record of what happened; nothing is taken back.',
    HINT    = CASE
                WHEN (TG_OP, TG_TABLE_NAME) = ('DELETE', 'event_outbox')
                  THEN 'Old events leave the outbox by: iu relay prune'
                ELSE 'Correct it with a new operation, which leaves its own record.'
              END;
END;
$$;

ALTER FUNCTION public.fn_iu_append_only() OWNER TO iu_owner;

COMMENT ON FUNCTION public.fn_iu_append_only() IS
  'Trigger: refuses UPDATE, DELETE or TRUNCATE with IU040, but for the DELETE of fn_iu_outbox_prune.';

REVOKE ALL ON FUNCTION public.fn_iu_append_only() FROM PUBLIC;
-- << sql/functions/fn_iu_append_only.sql

-- ---------------------------------------------------------------------------------------
-- Pruning: what may go, the deed, and the baseline that a tree needs before.
-- ---------------------------------------------------------------------------------------

-- >> sql/functions/retention/fn_iu_outbox_judge.sql
-- fn_iu_outbox_judge says of rows of the outbox whether they may be pruned, and what holds
-- them back: the one place where that is decided, for the preview and for the deed.
--
-- It looks at the p_window rows above p_after_id, by id (NULL: at all).  A row may go, held_by
-- NULL, if none of these holds it; of several the first is named:
--
--   newest_published  it is the row with the highest published id of a shard.  The relay finds
--                     it again at every start, and tells a restored database by its absence
--   unsettled         its transaction was not over for every shard of the relay: p_before is
--                     the smallest xmin of their settled snapshots (S1, not the window's S2)
--   blocked           its tree waits for a dead letter of the relay to be resolved
--   too_young         it occurred less than p_older_than ago
--   undecided         a route registered for its type has not decided for good: no sent, no
--                     final decision in the live lane, no discarded dead letter.  Whether the
--                     route is enabled does not matter: what it would deliver is still owed
--   no_baseline       no baseline of its tree stands at its version or above, so the tree
--                     could not be rebuilt.  p_with_baselines true leaves this one out, and
--                     column baseline tells
--   behind            a lower version of its tree stays: only a prefix of the versions leaves,
--                     so no hole arises
--
-- p_before, p_newest_ids and p_blocked come from the cursors of all shards; old ones err on
-- the side of keeping, because cursors only move forward.

CREATE OR REPLACE FUNCTION public.fn_iu_outbox_judge(
  p_before         text,
  p_newest_ids     bigint[],
  p_blocked        uuid[],
  p_older_than     interval,
  p_with_baselines boolean,
  p_after_id       bigint,
  p_window         integer
)
RETURNS TABLE (
  id bigint, event_ref uuid, event_type text, tree_id uuid, aggregate_version bigint,
  occurred_at timestamptz, baseline boolean, held_by text
)
LANGUAGE sql
STABLE
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
  WITH examined AS (
    SELECT event.id, event.xid, event.event_ref, event.event_type, event.aggregate_id,
           event.incarnation, event.aggregate_version, event.occurred_at,
           EXISTS (SELECT FROM public.iu_tree_baseline AS base
                    WHERE base.tree_id = event.aggregate_id
                      AND base.version >= event.aggregate_version) AS baseline
      FROM public.event_outbox AS event
     WHERE event.id > p_after_id
     ORDER BY event.id
     LIMIT p_window
  ), judged AS (
    SELECT examined.*,
           CASE
             WHEN examined.id = ANY (p_newest_ids) THEN 'newest_published'
             WHEN examined.xid >= p_before::xid8 THEN 'unsettled'
             WHEN examined.aggregate_id = ANY (p_blocked) THEN 'blocked'
             WHEN examined.occurred_at > statement_timestamp() - p_older_than THEN 'too_young'
             WHEN EXISTS (
               SELECT FROM public.iu_outbound_route AS route
                WHERE route.event_type = examined.event_type
                  AND NOT EXISTS (
                    SELECT FROM public.iu_route_attempt AS attempt
                     WHERE attempt.event_ref = examined.event_ref
                       AND attempt.route_code = route.route_code
                       AND attempt.lane = 'live' AND attempt.final)
                  AND NOT EXISTS (
                    SELECT FROM public.iu_route_dead_letter AS letter
                     WHERE letter.event_ref = examined.event_ref
                       AND letter.route_code = route.route_code
                       AND letter.lane = 'live' AND letter.state = 'discarded')
             ) THEN 'undecided'
             WHEN NOT (examined.baseline OR p_with_baselines) THEN 'no_baseline'
           END AS reason
      FROM examined
  ), tree AS (
    SELECT named.aggregate_id,
           (SELECT oldest.aggregate_version
              FROM public.event_outbox AS oldest
             WHERE oldest.aggregate_id = named.aggregate_id
             ORDER BY oldest.incarnation, oldest.aggregate_version
             LIMIT 1) AS first_version
      FROM (SELECT DISTINCT examined.aggregate_id FROM examined) AS named
  )
  SELECT judged.id, judged.event_ref, judged.event_type, judged.aggregate_id, judged.aggregate_version,
         judged.occurred_at, judged.baseline,
         coalesce(judged.reason, CASE
           WHEN count(judged.reason) OVER versions > 0
             OR judged.aggregate_version <> tree.first_version + row_number() OVER versions - 1
             THEN 'behind'
         END)
    FROM judged JOIN tree ON tree.aggregate_id = judged.aggregate_id
  WINDOW versions AS (PARTITION BY judged.aggregate_id
                      ORDER BY judged.incarnation, judged.aggregate_version
                      ROWS UNBOUNDED PRECEDING);
$$;

ALTER FUNCTION public.fn_iu_outbox_judge(text, bigint[], uuid[], interval, boolean, bigint, integer)
  OWNER TO iu_owner;

COMMENT ON FUNCTION public.fn_iu_outbox_judge(text, bigint[], uuid[], interval, boolean, bigint, integer) IS
  'Of rows of the outbox: held_by NULL if they may be pruned, else the first reason that holds them.';

-- It reads every table and decides nothing by itself; the owner's command previews with it.
REVOKE ALL ON FUNCTION public.fn_iu_outbox_judge(text, bigint[], uuid[], interval, boolean, bigint, integer)
  FROM PUBLIC;
-- << sql/functions/retention/fn_iu_outbox_judge.sql

-- >> sql/functions/retention/fn_iu_outbox_prune.sql
-- fn_iu_outbox_prune takes rows out of the outbox, each replaced by its stub: the one way out.
--
-- Bounded: it looks at p_window rows above p_after_id and takes at most p_limit of those that
-- fn_iu_outbox_judge lets go, the oldest first and of each tree a prefix of its versions.  What
-- it returns tells where to go on; a call that is killed has done nothing, and a run that
-- begins again from 0 finds what is left.
--
-- The owner's alone: what it is told of the relay's cursors it has to believe, so only
-- `iu relay prune`, which has compared them with this database, calls it.  What cannot be true
-- is refused: a NULL would let rows through, and a bound that this database's transactions
-- have not reached is that of another database.
--
-- Locks: one prune at a time, (18773, 4); then rows that nobody else changes.  Relay, writers
-- and deliveries wait for none of it.  DELETE and stub are one statement: the stubs are made
-- of what was deleted, so no event is in both places or in neither.

CREATE OR REPLACE FUNCTION public.fn_iu_outbox_prune(
  p_before     text,
  p_newest_ids bigint[],
  p_blocked    uuid[],
  p_older_than interval,
  p_after_id   bigint,
  p_window     integer,
  p_limit      integer
)
RETURNS TABLE (examined bigint, pruned bigint, last_id bigint)
LANGUAGE plpgsql
VOLATILE
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  IF num_nulls(p_before, p_newest_ids, p_blocked, p_older_than, p_after_id, p_window, p_limit) > 0
     OR array_position(p_newest_ids, NULL) IS NOT NULL OR array_position(p_blocked, NULL) IS NOT NULL
     OR p_older_than < '0' OR p_window < 1 OR p_limit < 1
     OR p_before::xid8 > pg_snapshot_xmax(pg_current_snapshot()) THEN
    RAISE EXCEPTION USING
      ERRCODE = 'IU013',
      MESSAGE = 'this is no bound for pruning the outbox',
      DETAIL  = format('Before xid %s (the next is %s), older than %s, after id %s, window %s, limit %s, %s published ids, %s blocked trees; none may be NULL, negative or ahead.',
                       p_before, pg_snapshot_xmax(pg_current_snapshot()), p_older_than, p_after_id, p_window,
                       p_limit, cardinality(p_newest_ids), cardinality(p_blocked)),
      HINT    = 'Use the command, which reads the bound from the relay''s cursors: iu relay prune --reason "..."';
  END IF;

  -- 18773 is 'IU' in ASCII, 4 pruning. A statement of its own, so that the next one sees what
  -- the prune it waited for has taken.
  PERFORM pg_advisory_xact_lock(18773, 4);
  PERFORM set_config('iu.maintenance', 'outbox_prune', true);

  RETURN QUERY
  WITH window_rows AS MATERIALIZED (
    SELECT judge.*
      FROM public.fn_iu_outbox_judge(
             p_before, p_newest_ids, p_blocked, p_older_than, false, p_after_id, p_window) AS judge
  ), going AS (
    -- By the highest id so far within the tree: the oldest first, and never a version before
    -- a lower one, whatever their ids are.
    SELECT candidate.id
      FROM (SELECT judge.id, judge.aggregate_version,
                   max(judge.id) OVER (PARTITION BY judge.tree_id ORDER BY judge.aggregate_version) AS turn
              FROM window_rows AS judge
             WHERE judge.held_by IS NULL) AS candidate
     ORDER BY candidate.turn, candidate.aggregate_version
     LIMIT p_limit
  ), gone AS (
    DELETE FROM public.event_outbox AS event
     USING going
     WHERE event.id = going.id
    RETURNING event.event_ref, event.event_type, event.schema_version, event.aggregate_id,
              event.aggregate_version, event.incarnation, event.payload_digest, event.occurred_at
  ), kept AS (
    INSERT INTO public.event_outbox_stub
      (event_ref, event_type, schema_version, aggregate_id, aggregate_version, incarnation,
       payload_digest, occurred_at)
    SELECT gone.event_ref, gone.event_type, gone.schema_version, gone.aggregate_id,
           gone.aggregate_version, gone.incarnation, gone.payload_digest, gone.occurred_at
      FROM gone
    RETURNING event_outbox_stub.event_ref
  )
  SELECT (SELECT count(*) FROM window_rows),
         (SELECT count(*) FROM kept),
         (SELECT max(window_rows.id) FROM window_rows);

  PERFORM set_config('iu.maintenance', '', true);
END;
$$;

ALTER FUNCTION public.fn_iu_outbox_prune(text, bigint[], uuid[], interval, bigint, integer, integer)
  OWNER TO iu_owner;

COMMENT ON FUNCTION public.fn_iu_outbox_prune(text, bigint[], uuid[], interval, bigint, integer, integer) IS
  'Moves at most p_limit rows from the outbox to their stubs; returns rows examined and pruned, and the last id examined.';

REVOKE ALL ON FUNCTION public.fn_iu_outbox_prune(text, bigint[], uuid[], interval, bigint, integer, integer)
  FROM PUBLIC;
-- << sql/functions/retention/fn_iu_outbox_prune.sql

-- >> sql/functions/retention/fn_iu_tree_baseline_take.sql
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
-- << sql/functions/retention/fn_iu_tree_baseline_take.sql

-- ---------------------------------------------------------------------------------------
-- Delivery by value, where the row is gone.
-- ---------------------------------------------------------------------------------------

-- >> sql/functions/retention/fn_iu_payload_matches.sql
-- fn_iu_payload_matches tells whether a payload is the event whose digest is known.
--
-- For an event whose row has left the outbox: its payload is gone, the digest of its datum
-- stays in the stub.  The encoders take a payload whole and each field in its one spelling, so
-- an equal digest means an equal payload.  One that does not fit its contract, or whose
-- contract this database has no encoder for, is not the event: false, never an error.
--
-- The CASE is the one of fn_iu_outbox_append; a test holds it to every released contract.

CREATE OR REPLACE FUNCTION public.fn_iu_payload_matches(
  p_event_type text, p_schema_version integer, p_payload jsonb, p_digest bytea
)
RETURNS boolean
LANGUAGE plpgsql
STABLE
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  RETURN coalesce(p_digest = sha256(
    CASE format('%s v%s', p_event_type, p_schema_version)
      WHEN 'structure_reparented v1' THEN public.fn_iu_avro_structure_reparented_v1(p_payload)
      WHEN 'structure_child_added v1' THEN public.fn_iu_avro_structure_child_added_v1(p_payload)
      WHEN 'structure_piece_deprecated v1' THEN public.fn_iu_avro_structure_piece_deprecated_v1(p_payload)
      WHEN 'structure_piece_split v1' THEN public.fn_iu_avro_structure_piece_split_v1(p_payload)
      WHEN 'structure_piece_merged v1' THEN public.fn_iu_avro_structure_piece_merged_v1(p_payload)
      WHEN 'structure_piece_replaced v1' THEN public.fn_iu_avro_structure_piece_replaced_v1(p_payload)
    END), false);
EXCEPTION
  WHEN SQLSTATE 'IU021' THEN
    RETURN false;
END;
$$;

ALTER FUNCTION public.fn_iu_payload_matches(text, integer, jsonb, bytea) OWNER TO iu_owner;

COMMENT ON FUNCTION public.fn_iu_payload_matches(text, integer, jsonb, bytea) IS
  'True if the payload, encoded by its contract, has this SHA-256; false for one that does not fit it.';

REVOKE ALL ON FUNCTION public.fn_iu_payload_matches(text, integer, jsonb, bytea) FROM PUBLIC;
-- iu verify compares projection rows of pruned events.
GRANT EXECUTE ON FUNCTION public.fn_iu_payload_matches(text, integer, jsonb, bytea) TO iu_reader;
-- << sql/functions/retention/fn_iu_payload_matches.sql

-- >> sql/functions/delivery/fn_iu_route_event.sql
-- fn_iu_route_event looks up the event that is to be delivered: its row of the outbox.
--
-- Where the row was pruned, the event comes by value: the caller's payload, if it is the one
-- whose digest the stub kept, in a row made up of the stub's columns; id, bucket, datum and
-- what else no delivery looks at are NULL there.  STABLE is needed: both look-ups then see one
-- snapshot, and in one snapshot an event is in exactly one of the two places.
--
-- IU001 if neither is there; IU020 if the payload is not the one that was written.

CREATE OR REPLACE FUNCTION public.fn_iu_route_event(p_event_ref uuid, p_payload jsonb)
RETURNS public.event_outbox
LANGUAGE plpgsql
STABLE
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  v_event public.event_outbox;
  v_stub  public.event_outbox_stub;
BEGIN
  SELECT event.* INTO v_event
    FROM public.event_outbox AS event
   WHERE event.event_ref = p_event_ref;
  IF FOUND THEN
    RETURN v_event;
  END IF;

  SELECT stub.* INTO v_stub
    FROM public.event_outbox_stub AS stub
   WHERE stub.event_ref = p_event_ref;
  IF NOT FOUND THEN
    RAISE EXCEPTION USING
      ERRCODE = 'IU001',
      MESSAGE = format('event %s is not in the outbox', p_event_ref),
      DETAIL  = 'No committed operation of this database wrote it.',
      HINT    = format('See what is known of it with: iu explain %s', p_event_ref);
  END IF;

  IF NOT public.fn_iu_payload_matches(
           v_stub.event_type, v_stub.schema_version, p_payload, v_stub.payload_digest) THEN
    RAISE EXCEPTION USING
      ERRCODE = 'IU020',
      MESSAGE = format('the payload given for event %s is not the one that was written', p_event_ref),
      DETAIL  = format('The row was pruned at %s; encoded as %s version %s, the payload has another digest than its stub.',
                       v_stub.pruned_at, v_stub.event_type, v_stub.schema_version),
      HINT    = format('See the event with: iu explain %s', p_event_ref);
  END IF;

  v_event.event_ref         := v_stub.event_ref;
  v_event.event_type        := v_stub.event_type;
  v_event.schema_version    := v_stub.schema_version;
  v_event.aggregate_id      := v_stub.aggregate_id;
  v_event.aggregate_version := v_stub.aggregate_version;
  v_event.incarnation       := v_stub.incarnation;
  v_event.payload           := p_payload;
  v_event.payload_digest    := v_stub.payload_digest;
  v_event.occurred_at       := v_stub.occurred_at;
  RETURN v_event;
END;
$$;

ALTER FUNCTION public.fn_iu_route_event(uuid, jsonb) OWNER TO iu_owner;

COMMENT ON FUNCTION public.fn_iu_route_event(uuid, jsonb) IS
  'The event as the outbox has it, or by value checked against its stub; IU001 unknown, IU020 another payload. Internal.';

REVOKE ALL ON FUNCTION public.fn_iu_route_event(uuid, jsonb) FROM PUBLIC;
-- << sql/functions/delivery/fn_iu_route_event.sql

-- >> sql/functions/delivery/fn_iu_structure_consumer.sql
-- fn_iu_structure_consumer is the internal target: it gives an event its one projection row.
--
-- Idempotent by the unique event_ref: whoever delivers an event again, or at the same time,
-- waits for the first and then finds the row there.  What kind of event it was, of which tree
-- and version, is read from the outbox or the stub: those columns are not the caller's to tell.
--
-- It asks no gate.  Only fn_iu_route_deliver calls it, and no process role may.

CREATE OR REPLACE FUNCTION public.fn_iu_structure_consumer(p_event_ref uuid, p_payload jsonb)
RETURNS boolean
LANGUAGE plpgsql
VOLATILE
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  INSERT INTO public.iu_tree_change_log
    (event_ref, event_type, tree_id, aggregate_version, incarnation, payload)
  SELECT event.event_ref, event.event_type, event.aggregate_id, event.aggregate_version,
         event.incarnation, p_payload
    FROM public.iu_event AS event
   WHERE event.event_ref = p_event_ref
      ON CONFLICT (event_ref) DO NOTHING;
  RETURN FOUND;
END;
$$;

ALTER FUNCTION public.fn_iu_structure_consumer(uuid, jsonb) OWNER TO iu_owner;

COMMENT ON FUNCTION public.fn_iu_structure_consumer(uuid, jsonb) IS
  'Adds the projection row of an event; true if it made it, false if it was there. Idempotent.';

REVOKE ALL ON FUNCTION public.fn_iu_structure_consumer(uuid, jsonb) FROM PUBLIC;
-- << sql/functions/delivery/fn_iu_structure_consumer.sql

-- >> sql/functions/delivery/fn_iu_route_deliver.sql
-- fn_iu_route_deliver delivers one event on one route, if the gates say so.
--
-- 1. The gates, first and for every call: a batch that began with open gates keeps them open
--    until its transaction ends, and a closed one refuses before anything is looked at.
-- 2. The event.  The caller's payload is never trusted: it must equal the one that the
--    operation wrote, or where that has left the outbox have its digest (fn_iu_route_event);
--    and the event must be of the route's own type.
-- 3. The target, by a static CASE.  No name is ever built into a statement here, and no
--    network, secret or outside address is within reach.
--
-- Refused by a gate: 42501, 0A000.  Refused for the event's own sake: IU001, IU020, IU022.

CREATE OR REPLACE FUNCTION public.fn_iu_route_deliver(p_route_code text, p_event_ref uuid, p_payload jsonb)
RETURNS boolean
LANGUAGE plpgsql
VOLATILE
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  v_route public.iu_outbound_route;
  v_event public.event_outbox;
BEGIN
  v_route := public.fn_iu_route_gate(p_route_code);
  v_event := public.fn_iu_route_event(p_event_ref, p_payload);

  IF v_event.event_type <> v_route.event_type THEN
    RAISE EXCEPTION USING
      ERRCODE = 'IU020',
      MESSAGE = format('event %s is not one of route %L', p_event_ref, p_route_code),
      DETAIL  = format('The event is a %s; the route delivers %s.', v_event.event_type, v_route.event_type),
      HINT    = format('See the event with: iu explain %s', p_event_ref);
  END IF;

  IF p_payload IS DISTINCT FROM v_event.payload THEN
    RAISE EXCEPTION USING
      ERRCODE = 'IU020',
      MESSAGE = format('the payload given for event %s is not the one that was written', p_event_ref),
      -- Names only: a forged value has no business in a log.
      DETAIL  = format('It differs in: %s.', coalesce((
                  SELECT string_agg(coalesce(given.key, written.key), ', ' ORDER BY written.key, given.key)
                    FROM jsonb_each(CASE jsonb_typeof(p_payload) WHEN 'object' THEN p_payload END) AS given
                    FULL JOIN jsonb_each(v_event.payload) AS written USING (key)
                   WHERE given.value IS DISTINCT FROM written.value), 'its form')),
      HINT    = format('See the event with: iu explain %s', p_event_ref);
  END IF;

  CASE
    WHEN v_route.target_kind = 'sql_function' AND v_route.target_ref = 'fn_iu_structure_consumer' THEN
      RETURN public.fn_iu_structure_consumer(p_event_ref, p_payload);
    -- No ELSE: a target that gate 3 lets through and nobody serves is a fault of this file,
    -- and case_not_found is the alarm for it.
  END CASE;
END;
$$;

ALTER FUNCTION public.fn_iu_route_deliver(text, uuid, jsonb) OWNER TO iu_owner;

COMMENT ON FUNCTION public.fn_iu_route_deliver(text, uuid, jsonb) IS
  'Delivers one event on one route behind gates 1 to 3; true if it had an effect, false if it had had it before.';

REVOKE ALL ON FUNCTION public.fn_iu_route_deliver(text, uuid, jsonb) FROM PUBLIC;
-- The one way a consumer can have an effect on the projection.
GRANT EXECUTE ON FUNCTION public.fn_iu_route_deliver(text, uuid, jsonb) TO iu_consumer;
-- << sql/functions/delivery/fn_iu_route_deliver.sql

COMMIT;
