-- 004: the outbox: every event, written in the transaction of the change it tells of.

BEGIN;
SET LOCAL ROLE iu_owner;

-- ---------------------------------------------------------------------------------------
-- The table.
-- Never updated: the relay keeps its position in Kafka, so publishing leaves no dead tuple
-- here. Not partitioned: PostgreSQL would then refuse the unique constraints, which are what
-- makes "exactly once, in order" checkable.
-- ---------------------------------------------------------------------------------------

CREATE TABLE public.event_outbox (
  xid               xid8 NOT NULL DEFAULT pg_current_xact_id(),
  id                bigint GENERATED ALWAYS AS IDENTITY (CACHE 1),
  event_ref         uuid NOT NULL,
  event_type        text NOT NULL,
  schema_version    integer NOT NULL,
  aggregate_id      uuid NOT NULL,
  aggregate_version bigint NOT NULL,
  bucket            smallint NOT NULL,
  incarnation       integer NOT NULL,
  payload           jsonb NOT NULL,
  datum             bytea NOT NULL,
  payload_digest    bytea NOT NULL,
  headers           jsonb NOT NULL DEFAULT '{}',
  occurred_at       timestamptz NOT NULL DEFAULT clock_timestamp(),
  CONSTRAINT event_outbox_pk PRIMARY KEY (id),
  CONSTRAINT event_outbox_event_ref_uq UNIQUE (event_ref),
  CONSTRAINT event_outbox_version_uq UNIQUE (aggregate_id, incarnation, aggregate_version),
  CONSTRAINT event_outbox_event_type_chk CHECK (event_type ~ '^[a-z][a-z0-9_]{0,99}$'),
  CONSTRAINT event_outbox_schema_version_chk CHECK (schema_version >= 1),
  CONSTRAINT event_outbox_aggregate_version_chk CHECK (aggregate_version >= 1),
  CONSTRAINT event_outbox_incarnation_chk CHECK (incarnation >= 1),
  -- The partition of a tree must never depend on who wrote the row.
  CONSTRAINT event_outbox_bucket_chk CHECK (bucket = get_byte(sha256(uuid_send(aggregate_id)), 0)),
  CONSTRAINT event_outbox_payload_chk CHECK (jsonb_typeof(payload) = 'object'),
  CONSTRAINT event_outbox_digest_chk CHECK (payload_digest = sha256(datum)),
  CONSTRAINT event_outbox_headers_chk CHECK (jsonb_typeof(headers) = 'object')
);

-- The relay reads by transaction: what became visible between two snapshots.
CREATE INDEX event_outbox_xid_idx ON public.event_outbox (xid, id);

COMMENT ON TABLE public.event_outbox IS 'One row per event, in the transaction of its change; append-only.';
COMMENT ON COLUMN public.event_outbox.xid IS 'Top-level transaction that wrote it; what the snapshot-diff cursor compares.';
COMMENT ON COLUMN public.event_outbox.id IS
  'Order of writing, not of committing; rollbacks leave gaps. Contiguous numbers are aggregate_version.';
COMMENT ON COLUMN public.event_outbox.event_ref IS 'Name of the event everywhere, UUIDv7.';
COMMENT ON COLUMN public.event_outbox.event_type IS 'Such as structure_reparented.';
COMMENT ON COLUMN public.event_outbox.schema_version IS 'Version of the contract the datum was made by.';
COMMENT ON COLUMN public.event_outbox.aggregate_id IS 'The tree.';
COMMENT ON COLUMN public.event_outbox.aggregate_version IS '1, 2, 3, … per tree and incarnation, without a hole.';
COMMENT ON COLUMN public.event_outbox.bucket IS
  '0 to 255, first byte of SHA-256 of the 16 bytes of aggregate_id; partition = bucket mod P.';
COMMENT ON COLUMN public.event_outbox.incarnation IS 'As of the tree when the event was made.';
COMMENT ON COLUMN public.event_outbox.payload IS 'The event for people and SQL; same content as datum.';
COMMENT ON COLUMN public.event_outbox.datum IS 'The event in Avro, without wire prefix: what is published.';
COMMENT ON COLUMN public.event_outbox.payload_digest IS 'SHA-256 of datum; travels as header iu_digest.';
COMMENT ON COLUMN public.event_outbox.headers IS 'Further headers, such as traceparent.';
COMMENT ON COLUMN public.event_outbox.occurred_at IS 'Clock when the event was made.';
COMMENT ON INDEX public.event_outbox_xid_idx IS 'Rows by the transaction that wrote them, for the relay.';

CREATE TRIGGER trg_event_outbox_append_only
  BEFORE UPDATE OR DELETE OR TRUNCATE ON public.event_outbox
  FOR EACH STATEMENT EXECUTE FUNCTION public.fn_iu_append_only();
ALTER TABLE public.event_outbox ENABLE ALWAYS TRIGGER trg_event_outbox_append_only;
COMMENT ON TRIGGER trg_event_outbox_append_only ON public.event_outbox IS 'An event that happened stays.';

-- ---------------------------------------------------------------------------------------
-- Privileges: the relay reads this table and nothing else.
-- No role has INSERT: rows come from fn_iu_outbox_append only, which runs as the owner.
-- ---------------------------------------------------------------------------------------

GRANT SELECT ON public.event_outbox TO iu_relay, iu_reader;
-- Its last value tells the relay a restored database from the one it left.
GRANT SELECT ON SEQUENCE public.event_outbox_id_seq TO iu_relay;

COMMIT;
