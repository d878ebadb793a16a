-- 010: what was decided about each event on each route, and what could not be delivered.

BEGIN;
SET LOCAL ROLE iu_owner;

-- ---------------------------------------------------------------------------------------
-- The ledger of decisions.
-- No reference to routes or events: it outlives both, and a foreign key would lock the one
-- route row once more for every event.
-- ---------------------------------------------------------------------------------------

CREATE TABLE public.iu_route_attempt (
  id          bigint GENERATED ALWAYS AS IDENTITY,
  route_code  text NOT NULL,
  lane        text NOT NULL,
  event_ref   uuid,
  decision    text NOT NULL,
  final       boolean NOT NULL,
  gate        text,
  reason      text,
  detail      jsonb,
  topic       text NOT NULL,
  partition   integer NOT NULL,
  "offset"    bigint NOT NULL,
  owner_epoch bigint NOT NULL,
  at          timestamptz NOT NULL DEFAULT clock_timestamp(),
  CONSTRAINT iu_route_attempt_pk PRIMARY KEY (id),
  CONSTRAINT iu_route_attempt_lane_chk CHECK (lane IN ('live', 'dry_run')),
  CONSTRAINT iu_route_attempt_decision_chk CHECK (decision IN ('dry_run', 'sent', 'refused', 'failed')),
  CONSTRAINT iu_route_attempt_lane_decision_chk CHECK (
    CASE lane WHEN 'live' THEN decision <> 'dry_run' ELSE decision <> 'sent' END),
  -- A rehearsed decision settles nothing; an effect settles everything.
  CONSTRAINT iu_route_attempt_final_chk CHECK (
    CASE decision WHEN 'sent' THEN final WHEN 'dry_run' THEN NOT final ELSE true END),
  -- Bytes that cannot be read have no event; everything decided about an event names it.
  CONSTRAINT iu_route_attempt_event_chk CHECK (
    event_ref IS NOT NULL OR decision IN ('refused', 'failed')),
  CONSTRAINT iu_route_attempt_position_chk CHECK (partition >= 0 AND "offset" >= 0)
);

-- One effect, one `sent`: held here and not only by the compare-and-set of the offset, which
-- cannot see an event that stands in the topic twice or is read again after a seek.
CREATE UNIQUE INDEX iu_route_attempt_sent_uq
  ON public.iu_route_attempt (route_code, event_ref) WHERE decision = 'sent';
CREATE INDEX iu_route_attempt_event_idx ON public.iu_route_attempt (event_ref);

COMMENT ON TABLE public.iu_route_attempt IS
  'One row per decision on a record of a route''s event type; append-only.';
COMMENT ON COLUMN public.iu_route_attempt.id IS 'Order of writing; rolled-back batches leave gaps.';
COMMENT ON COLUMN public.iu_route_attempt.route_code IS 'The route that decided.';
COMMENT ON COLUMN public.iu_route_attempt.lane IS 'live or dry_run.';
COMMENT ON COLUMN public.iu_route_attempt.event_ref IS
  'The event; NULL if the record could not be read as one.';
COMMENT ON COLUMN public.iu_route_attempt.decision IS 'dry_run, sent, refused or failed.';
COMMENT ON COLUMN public.iu_route_attempt.final IS
  'True if no later decision on this event and route is to be expected.';
COMMENT ON COLUMN public.iu_route_attempt.gate IS
  'In dry-run the gate that would have held it; NULL if none.';
COMMENT ON COLUMN public.iu_route_attempt.reason IS 'Why, in a few words that do not vary by event.';
COMMENT ON COLUMN public.iu_route_attempt.detail IS 'What else there is to know, varying by event.';
COMMENT ON COLUMN public.iu_route_attempt.topic IS 'Where the record was read.';
COMMENT ON COLUMN public.iu_route_attempt.partition IS 'Where the record was read.';
COMMENT ON COLUMN public.iu_route_attempt."offset" IS 'Where the record was read.';
COMMENT ON COLUMN public.iu_route_attempt.owner_epoch IS
  'Claim under which it was decided; joins it to the process.';
COMMENT ON COLUMN public.iu_route_attempt.at IS 'Clock at the decision.';
COMMENT ON INDEX public.iu_route_attempt_sent_uq IS 'At most one sent per (route, event).';
COMMENT ON INDEX public.iu_route_attempt_event_idx IS 'What was decided about one event.';

CREATE TRIGGER trg_iu_route_attempt_append_only
  BEFORE UPDATE OR DELETE OR TRUNCATE ON public.iu_route_attempt
  FOR EACH STATEMENT EXECUTE FUNCTION public.fn_iu_append_only();
ALTER TABLE public.iu_route_attempt ENABLE ALWAYS TRIGGER trg_iu_route_attempt_append_only;
COMMENT ON TRIGGER trg_iu_route_attempt_append_only ON public.iu_route_attempt IS 'A decision that was taken stays.';

-- ---------------------------------------------------------------------------------------
-- Dead letters.
-- Whole, so that the record can be read, judged and replayed when the topic no longer has
-- it. State, not history: an operator parks, replays and discards.
-- ---------------------------------------------------------------------------------------

CREATE TABLE public.iu_route_dead_letter (
  id         uuid NOT NULL DEFAULT public.fn_iu_uuid_v7(),
  route_code text NOT NULL,
  lane       text NOT NULL,
  state      text NOT NULL DEFAULT 'dead',
  event_ref  uuid,
  tree_id    uuid,
  topic      text NOT NULL,
  partition  integer NOT NULL,
  "offset"   bigint NOT NULL,
  record_at  timestamptz,
  key        bytea,
  value      bytea,
  headers    jsonb NOT NULL DEFAULT '[]',
  schema     text,
  sqlstate   text,
  reason     text NOT NULL,
  detail     jsonb,
  created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  updated_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  CONSTRAINT iu_route_dead_letter_pk PRIMARY KEY (id),
  CONSTRAINT iu_route_dead_letter_record_uq UNIQUE (route_code, lane, topic, partition, "offset"),
  CONSTRAINT iu_route_dead_letter_lane_chk CHECK (lane IN ('live', 'dry_run')),
  CONSTRAINT iu_route_dead_letter_state_chk CHECK (state IN ('dead', 'parked', 'replayed', 'discarded')),
  CONSTRAINT iu_route_dead_letter_headers_chk CHECK (jsonb_typeof(headers) = 'array'),
  CONSTRAINT iu_route_dead_letter_position_chk CHECK (partition >= 0 AND "offset" >= 0)
);

CREATE INDEX iu_route_dead_letter_event_idx ON public.iu_route_dead_letter (event_ref);

COMMENT ON TABLE public.iu_route_dead_letter IS
  'Records a route could not deliver, byte for byte, and what became of them.';
COMMENT ON COLUMN public.iu_route_dead_letter.id IS 'Names the dead letter, UUIDv7.';
COMMENT ON COLUMN public.iu_route_dead_letter.route_code IS 'The route that could not deliver it.';
COMMENT ON COLUMN public.iu_route_dead_letter.lane IS 'live or dry_run.';
COMMENT ON COLUMN public.iu_route_dead_letter.state IS
  'dead: failed itself. parked: waits behind one that is dead. replayed. discarded.';
COMMENT ON COLUMN public.iu_route_dead_letter.event_ref IS 'The event, if the record tells it.';
COMMENT ON COLUMN public.iu_route_dead_letter.tree_id IS 'The tree, if the record''s key is one.';
COMMENT ON COLUMN public.iu_route_dead_letter.topic IS 'Where the record was read.';
COMMENT ON COLUMN public.iu_route_dead_letter.partition IS 'Where the record was read.';
COMMENT ON COLUMN public.iu_route_dead_letter."offset" IS 'Where the record was read.';
COMMENT ON COLUMN public.iu_route_dead_letter.record_at IS 'Time stamp of the record, milliseconds.';
COMMENT ON COLUMN public.iu_route_dead_letter.key IS 'Bytes of the record''s key; NULL if it had none.';
COMMENT ON COLUMN public.iu_route_dead_letter.value IS
  'Bytes of the record''s value; NULL if it was a tombstone.';
COMMENT ON COLUMN public.iu_route_dead_letter.headers IS
  'Array of [name, value in base64], in the record''s order.';
COMMENT ON COLUMN public.iu_route_dead_letter.schema IS 'What the value''s prefix says it was written with.';
COMMENT ON COLUMN public.iu_route_dead_letter.sqlstate IS
  'SQLSTATE of the failure, if the database raised it.';
COMMENT ON COLUMN public.iu_route_dead_letter.reason IS
  'Why, in a few words that do not vary by event: letters are grouped by it.';
COMMENT ON COLUMN public.iu_route_dead_letter.detail IS 'What else there is to know.';
COMMENT ON COLUMN public.iu_route_dead_letter.created_at IS 'Clock when it was kept.';
COMMENT ON COLUMN public.iu_route_dead_letter.updated_at IS 'Clock of its last change of state.';
COMMENT ON INDEX public.iu_route_dead_letter_event_idx IS 'Is there a dead letter of this event?';

-- ---------------------------------------------------------------------------------------
-- Privileges: the reader looks; what is written comes from fn_iu_route_record only.
-- ---------------------------------------------------------------------------------------

GRANT SELECT ON public.iu_route_attempt, public.iu_route_dead_letter TO iu_reader;

COMMIT;
