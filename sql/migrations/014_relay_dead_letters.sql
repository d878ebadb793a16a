-- 014: what the relay could not publish, and who acted in its place.

BEGIN;
SET LOCAL ROLE iu_owner;

-- ---------------------------------------------------------------------------------------
-- Dead letters of the relay: a copy of a topic, not a queue.
-- The letter is a record on iu.relay.dead-letters, written in the Kafka transaction that
-- passes its row over; what became of it is another. Kafka and PostgreSQL cannot commit
-- together, so this is filled from the topic, as often as anybody likes.
-- No reference to event_outbox: the letter is kept whole, and stays when its row is pruned.
-- ---------------------------------------------------------------------------------------

CREATE TABLE public.iu_relay_dead_letter (
  id                bigint GENERATED ALWAYS AS IDENTITY,
  outbox_id         bigint NOT NULL,
  event_ref         uuid NOT NULL,
  event_type        text NOT NULL,
  schema_version    integer NOT NULL,
  tree_id           uuid NOT NULL,
  aggregate_version bigint NOT NULL,
  incarnation       integer NOT NULL,
  occurred_at       timestamptz NOT NULL,
  datum             bytea NOT NULL,
  payload_digest    bytea NOT NULL,
  reason            text NOT NULL,
  detail            text NOT NULL,
  policy            text NOT NULL,
  topic             text NOT NULL,
  topic_id          text NOT NULL,
  partition         integer NOT NULL,
  "offset"          bigint NOT NULL,
  last_offset       bigint NOT NULL,
  recorded_at       timestamptz NOT NULL,
  state             text NOT NULL,
  resolved_at       timestamptz,
  resolved_by       text,
  resolved_reason   text,
  CONSTRAINT iu_relay_dead_letter_pk PRIMARY KEY (id),
  CONSTRAINT iu_relay_dead_letter_place_uq UNIQUE (topic_id, partition, "offset"),
  CONSTRAINT iu_relay_dead_letter_event_uq UNIQUE (event_ref, incarnation),
  CONSTRAINT iu_relay_dead_letter_policy_chk CHECK (policy IN ('halt', 'block_tree', 'skip')),
  CONSTRAINT iu_relay_dead_letter_offset_chk CHECK (
    partition >= 0 AND "offset" >= 0 AND last_offset >= "offset"),
  CONSTRAINT iu_relay_dead_letter_state_chk CHECK (
    state IN ('blocked', 'skipped', 'discarded', 'published')),
  -- By policy `skip` a row is left out at once; the others wait until somebody decides.
  CONSTRAINT iu_relay_dead_letter_skipped_chk CHECK ((state = 'skipped') = (policy = 'skip')),
  CONSTRAINT iu_relay_dead_letter_resolved_chk CHECK (
    CASE WHEN state IN ('discarded', 'published')
         THEN resolved_at IS NOT NULL AND resolved_by IS NOT NULL AND resolved_reason IS NOT NULL
         ELSE resolved_at IS NULL AND resolved_by IS NULL AND resolved_reason IS NULL END)
);

CREATE INDEX iu_relay_dead_letter_blocked_idx
  ON public.iu_relay_dead_letter (tree_id, aggregate_version) WHERE state = 'blocked';

COMMENT ON TABLE public.iu_relay_dead_letter IS
  'Outbox rows the relay could not publish, whole, and what became of them; a copy of the dead-letter topic.';
COMMENT ON COLUMN public.iu_relay_dead_letter.id IS 'Order of copying.';
COMMENT ON COLUMN public.iu_relay_dead_letter.outbox_id IS 'event_outbox.id of the row.';
COMMENT ON COLUMN public.iu_relay_dead_letter.event_ref IS 'The event.';
COMMENT ON COLUMN public.iu_relay_dead_letter.event_type IS 'As the row has it, released or not.';
COMMENT ON COLUMN public.iu_relay_dead_letter.schema_version IS 'As the row has it, released or not.';
COMMENT ON COLUMN public.iu_relay_dead_letter.tree_id IS 'The tree; aggregate_id of the row.';
COMMENT ON COLUMN public.iu_relay_dead_letter.aggregate_version IS 'Version of the tree by this event.';
COMMENT ON COLUMN public.iu_relay_dead_letter.incarnation IS 'As of the tree when the event was made.';
COMMENT ON COLUMN public.iu_relay_dead_letter.occurred_at IS 'Clock when the event was made.';
COMMENT ON COLUMN public.iu_relay_dead_letter.datum IS 'Bytes of the row''s datum, joined from all parts.';
COMMENT ON COLUMN public.iu_relay_dead_letter.payload_digest IS
  'As the row has it; not that of datum if the reason is digest_mismatch.';
COMMENT ON COLUMN public.iu_relay_dead_letter.reason IS
  'oversized, unknown_type, digest_mismatch or contract_violation, as of this writing.';
COMMENT ON COLUMN public.iu_relay_dead_letter.detail IS 'What else there is to know.';
COMMENT ON COLUMN public.iu_relay_dead_letter.policy IS
  'What the relay did: halt, block_tree (the tree waits) or skip (the row was left out).';
COMMENT ON COLUMN public.iu_relay_dead_letter.topic IS 'Where the letter stands.';
COMMENT ON COLUMN public.iu_relay_dead_letter.topic_id IS
  'Which topic of that name: another one''s offsets mean nothing.';
COMMENT ON COLUMN public.iu_relay_dead_letter.partition IS 'Where the letter stands; the partition of its tree.';
COMMENT ON COLUMN public.iu_relay_dead_letter."offset" IS 'Where its first part stands.';
COMMENT ON COLUMN public.iu_relay_dead_letter.last_offset IS 'Where its last part stands; copying goes on behind it.';
COMMENT ON COLUMN public.iu_relay_dead_letter.recorded_at IS
  'Time stamp of the letter on the topic: since when the row is held back.';
COMMENT ON COLUMN public.iu_relay_dead_letter.state IS
  'blocked: the tree waits. skipped: left out by policy. discarded: left out by a person. published: tried again.';
COMMENT ON COLUMN public.iu_relay_dead_letter.resolved_at IS 'When a person decided; NULL if nobody has.';
COMMENT ON COLUMN public.iu_relay_dead_letter.resolved_by IS 'The login that decided.';
COMMENT ON COLUMN public.iu_relay_dead_letter.resolved_reason IS 'The reason it gave.';
COMMENT ON INDEX public.iu_relay_dead_letter_blocked_idx IS 'What holds a tree back?';

-- ---------------------------------------------------------------------------------------
-- The trail of commands that act in the relay's place.
-- ---------------------------------------------------------------------------------------

CREATE TABLE public.iu_relay_action (
  id               bigint GENERATED ALWAYS AS IDENTITY,
  at               timestamptz NOT NULL DEFAULT clock_timestamp(),
  login            text NOT NULL,
  role             text NOT NULL,
  application_name text NOT NULL,
  command          text NOT NULL,
  detail           jsonb NOT NULL,
  reason           text NOT NULL,
  CONSTRAINT iu_relay_action_pk PRIMARY KEY (id),
  CONSTRAINT iu_relay_action_detail_chk CHECK (jsonb_typeof(detail) = 'object')
);

COMMENT ON TABLE public.iu_relay_action IS
  'One row per command that changed what the relay publishes or keeps; append-only.';
COMMENT ON COLUMN public.iu_relay_action.id IS 'Order of the commands.';
COMMENT ON COLUMN public.iu_relay_action.at IS 'Clock before the act; one killed in the middle has its row, too.';
COMMENT ON COLUMN public.iu_relay_action.login IS 'session_user: who is connected, whatever role was taken.';
COMMENT ON COLUMN public.iu_relay_action.role IS 'The role taken with SET ROLE, or none.';
COMMENT ON COLUMN public.iu_relay_action.application_name IS 'As the client named itself.';
COMMENT ON COLUMN public.iu_relay_action.command IS 'Such as "relay unblock".';
COMMENT ON COLUMN public.iu_relay_action.detail IS 'What it was asked to do, and on what state.';
COMMENT ON COLUMN public.iu_relay_action.reason IS 'What the person gave as reason.';

CREATE TRIGGER trg_iu_relay_action_append_only
  BEFORE UPDATE OR DELETE OR TRUNCATE ON public.iu_relay_action
  FOR EACH STATEMENT EXECUTE FUNCTION public.fn_iu_append_only();
ALTER TABLE public.iu_relay_action ENABLE ALWAYS TRIGGER trg_iu_relay_action_append_only;
COMMENT ON TRIGGER trg_iu_relay_action_append_only ON public.iu_relay_action IS 'An act that was begun stays.';

-- ---------------------------------------------------------------------------------------
-- Functions: the relay copies its topic through three of them and has no privilege on a table.
-- ---------------------------------------------------------------------------------------

-- >> sql/functions/relay/fn_iu_relay_dead_letter_ends.sql
-- fn_iu_relay_dead_letter_ends says, for each partition of the dead-letter topic, up to which
-- offset its letters are in the table.
--
-- Whoever fills the table asks this first and remembers nothing itself. Offsets of a topic that
-- was deleted and made again mean nothing, so they are asked for by the topic's id.

CREATE OR REPLACE FUNCTION public.fn_iu_relay_dead_letter_ends(p_topic_id text)
RETURNS TABLE ("partition" integer, last_offset bigint)
LANGUAGE sql
STABLE
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
  SELECT letter.partition, max(letter.last_offset)
    FROM public.iu_relay_dead_letter AS letter
   WHERE letter.topic_id = p_topic_id
   GROUP BY letter.partition;
$$;

ALTER FUNCTION public.fn_iu_relay_dead_letter_ends(text) OWNER TO iu_owner;

COMMENT ON FUNCTION public.fn_iu_relay_dead_letter_ends(text) IS
  'Highest offset of a recorded letter, by partition of the dead-letter topic with this id.';

REVOKE ALL ON FUNCTION public.fn_iu_relay_dead_letter_ends(text) FROM PUBLIC;
-- The relay has no privilege on the table: this is how it knows where to go on.
GRANT EXECUTE ON FUNCTION public.fn_iu_relay_dead_letter_ends(text) TO iu_relay;
-- << sql/functions/relay/fn_iu_relay_dead_letter_ends.sql

-- >> sql/functions/relay/fn_iu_relay_dead_letter_record.sql
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
-- << sql/functions/relay/fn_iu_relay_dead_letter_record.sql

-- >> sql/functions/relay/fn_iu_relay_dead_letter_resolve.sql
-- fn_iu_relay_dead_letter_resolve writes down what became of a letter.
--
-- Only a letter that is still open changes, and none that is younger than the resolution: the
-- same one is read from the topic again and again, maybe by a slow process. The relay may call it for the reason it may record
-- letters: the resolution is a record of the topic, written in the Kafka transaction that
-- published the row or left it out, and this only copies it.

CREATE OR REPLACE FUNCTION public.fn_iu_relay_dead_letter_resolve(
  p_event_ref   uuid,
  p_incarnation integer,
  p_state       text,
  p_resolved_at timestamptz,
  p_resolved_by text,
  p_reason      text
)
RETURNS boolean
LANGUAGE plpgsql
VOLATILE
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  UPDATE public.iu_relay_dead_letter AS letter
     SET state = p_state,
         resolved_at = p_resolved_at,
         resolved_by = p_resolved_by,
         resolved_reason = p_reason
   WHERE letter.event_ref = p_event_ref
     AND letter.incarnation = p_incarnation
     AND letter.state = 'blocked'
     AND letter.recorded_at <= p_resolved_at;
  RETURN FOUND;
END;
$$;

ALTER FUNCTION public.fn_iu_relay_dead_letter_resolve(uuid, integer, text, timestamptz, text, text)
  OWNER TO iu_owner;

COMMENT ON FUNCTION public.fn_iu_relay_dead_letter_resolve(uuid, integer, text, timestamptz, text, text) IS
  'Closes an open letter as published or discarded; false if there is no open one, which changes nothing.';

REVOKE ALL ON FUNCTION public.fn_iu_relay_dead_letter_resolve(uuid, integer, text, timestamptz, text, text)
  FROM PUBLIC;
GRANT EXECUTE ON FUNCTION public.fn_iu_relay_dead_letter_resolve(uuid, integer, text, timestamptz, text, text)
  TO iu_relay;
-- << sql/functions/relay/fn_iu_relay_dead_letter_resolve.sql

-- >> sql/functions/relay/fn_iu_relay_action_record.sql
-- fn_iu_relay_action_record writes down that somebody acts in the relay's place, and why.
--
-- Called before the act: one that was killed in the middle has its row, too. Inside a definer
-- function current_user is the owner, so the caller is session_user.

CREATE OR REPLACE FUNCTION public.fn_iu_relay_action_record(p_command text, p_detail jsonb, p_reason text)
RETURNS bigint
LANGUAGE plpgsql
VOLATILE
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  v_id bigint;
BEGIN
  IF nullif(btrim(p_reason), '') IS NULL THEN
    RAISE EXCEPTION USING
      ERRCODE = 'IU006',
      MESSAGE = format('%s needs a reason', p_command),
      DETAIL  = 'It changes what the relay publishes, and the trail has to say why.',
      HINT    = format('Say why: iu %s … --reason "..."', p_command);
  END IF;

  INSERT INTO public.iu_relay_action (login, role, application_name, command, detail, reason)
  VALUES (session_user, current_setting('role'), current_setting('application_name'),
          p_command, p_detail, btrim(p_reason))
  RETURNING iu_relay_action.id INTO v_id;
  RETURN v_id;
END;
$$;

ALTER FUNCTION public.fn_iu_relay_action_record(text, jsonb, text) OWNER TO iu_owner;

COMMENT ON FUNCTION public.fn_iu_relay_action_record(text, jsonb, text) IS
  'Adds a row to the trail of relay commands and returns its id; IU006 without a reason.';

-- The commands that act in the relay's place run as the owner.
REVOKE ALL ON FUNCTION public.fn_iu_relay_action_record(text, jsonb, text) FROM PUBLIC;
-- << sql/functions/relay/fn_iu_relay_action_record.sql

GRANT SELECT ON public.iu_relay_dead_letter, public.iu_relay_action TO iu_reader;

COMMIT;
