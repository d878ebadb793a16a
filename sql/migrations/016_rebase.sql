-- 016: after a restore: events that were published and that the database no longer has are put
-- back, or given up for good.

BEGIN;
SET LOCAL ROLE iu_owner;

-- ---------------------------------------------------------------------------------------
-- Events given up.
-- They stand on the topic for ever, so what reads the topic must be able to know them.
-- ---------------------------------------------------------------------------------------

CREATE TABLE public.iu_abandoned_event (
  event_ref    uuid NOT NULL,
  event_type   text NOT NULL,
  tree_id      uuid NOT NULL,
  version      bigint NOT NULL,
  incarnation  integer NOT NULL,
  fenced_by    integer NOT NULL,
  topic        text NOT NULL,
  partition    integer NOT NULL,
  "offset"     bigint NOT NULL,
  digest       bytea NOT NULL,
  abandoned_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  reason       text NOT NULL,
  CONSTRAINT iu_abandoned_event_pk PRIMARY KEY (event_ref),
  CONSTRAINT iu_abandoned_event_version_chk CHECK (version >= 1),
  CONSTRAINT iu_abandoned_event_incarnation_chk CHECK (incarnation >= 1 AND fenced_by > incarnation),
  CONSTRAINT iu_abandoned_event_position_chk CHECK (partition >= 0 AND "offset" >= 0),
  CONSTRAINT iu_abandoned_event_digest_chk CHECK (octet_length(digest) = 32),
  CONSTRAINT iu_abandoned_event_reason_chk CHECK (btrim(reason) <> '')
);

CREATE INDEX iu_abandoned_event_tree_idx ON public.iu_abandoned_event (tree_id, fenced_by);

COMMENT ON TABLE public.iu_abandoned_event IS
  'Published events that a restored database did not have and that were given up; append-only.';
COMMENT ON COLUMN public.iu_abandoned_event.event_ref IS 'The event, as its record names it.';
COMMENT ON COLUMN public.iu_abandoned_event.event_type IS 'As its record says.';
COMMENT ON COLUMN public.iu_abandoned_event.tree_id IS
  'The tree; no reference, because one made after the backup is not here.';
COMMENT ON COLUMN public.iu_abandoned_event.version IS 'Version of the tree that it was.';
COMMENT ON COLUMN public.iu_abandoned_event.incarnation IS 'Incarnation that it was published in.';
COMMENT ON COLUMN public.iu_abandoned_event.fenced_by IS
  'Incarnation in which the tree goes on; its fence record on the topic names it.';
COMMENT ON COLUMN public.iu_abandoned_event.topic IS 'Where its record stands.';
COMMENT ON COLUMN public.iu_abandoned_event.partition IS 'Where its record stands.';
COMMENT ON COLUMN public.iu_abandoned_event."offset" IS 'Where its record stands.';
COMMENT ON COLUMN public.iu_abandoned_event.digest IS 'SHA-256 of its datum.';
COMMENT ON COLUMN public.iu_abandoned_event.abandoned_at IS 'Clock when it was given up.';
COMMENT ON COLUMN public.iu_abandoned_event.reason IS 'Why, as the operator said.';
COMMENT ON INDEX public.iu_abandoned_event_tree_idx IS 'What was given up of a tree, and when.';

CREATE TRIGGER trg_iu_abandoned_event_append_only
  BEFORE UPDATE OR DELETE OR TRUNCATE ON public.iu_abandoned_event
  FOR EACH STATEMENT EXECUTE FUNCTION public.fn_iu_append_only();
ALTER TABLE public.iu_abandoned_event ENABLE ALWAYS TRIGGER trg_iu_abandoned_event_append_only;
COMMENT ON TRIGGER trg_iu_abandoned_event_append_only ON public.iu_abandoned_event IS
  'What was given up is not taken back.';

GRANT SELECT ON public.iu_abandoned_event TO iu_reader;

-- ---------------------------------------------------------------------------------------
-- Trees go on in another incarnation, with versions that go on.
-- ---------------------------------------------------------------------------------------

COMMENT ON COLUMN public.iu_tree.version IS 'Events this tree has had; goes on over incarnations; 0 as loaded.';

-- >> sql/functions/fn_iu_tree_incarnation.sql
-- fn_iu_tree_incarnation lets a tree that is made again begin where its events were given up.
--
-- A tree made after the backup is not in the restored database, but its events are on the topic.
-- Whoever makes it again under the same id would otherwise begin at version 1 of incarnation 1
-- for a second time.

CREATE OR REPLACE FUNCTION public.fn_iu_tree_incarnation()
RETURNS trigger
LANGUAGE plpgsql
VOLATILE
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  SELECT greatest(NEW.incarnation, max(abandoned.fenced_by)) INTO NEW.incarnation
    FROM public.iu_abandoned_event AS abandoned
   WHERE abandoned.tree_id = NEW.tree_id;
  RETURN NEW;
END;
$$;

ALTER FUNCTION public.fn_iu_tree_incarnation() OWNER TO iu_owner;

COMMENT ON FUNCTION public.fn_iu_tree_incarnation() IS
  'Trigger: a new tree takes the incarnation that follows its abandoned events.';

REVOKE ALL ON FUNCTION public.fn_iu_tree_incarnation() FROM PUBLIC;
-- << sql/functions/fn_iu_tree_incarnation.sql

CREATE TRIGGER trg_iu_tree_incarnation
  BEFORE INSERT ON public.iu_tree
  FOR EACH ROW EXECUTE FUNCTION public.fn_iu_tree_incarnation();
COMMENT ON TRIGGER trg_iu_tree_incarnation ON public.iu_tree IS
  'A tree that is made again begins after its abandoned events.';

-- >> sql/functions/fn_iu_rebase_abandon.sql
-- fn_iu_rebase_abandon gives up the events of one tree that stand on the topic and not in this
-- database: it writes down which, and lets the tree go on in a new incarnation.
--
-- Versions go on from where the tree stands; the incarnation says that a version which comes
-- again is another event. It exceeds every incarnation that was ever published for the tree:
-- the caller names the highest on the topic, because a database restored twice has forgotten
-- the first time.
--
-- A tree that was made after the backup does not exist here. Its events are written down all
-- the same, and trg_iu_tree_incarnation gives its number to whoever makes the tree again.
--
-- Called again for the same events it changes nothing and returns the same number.
--
-- Lock order: the caller holds the gate's advisory lock and event_outbox, then this head row.

CREATE OR REPLACE FUNCTION public.fn_iu_rebase_abandon(
  p_tree_id uuid, p_incarnation_seen integer, p_topic text, p_events jsonb, p_reason text
)
RETURNS integer
LANGUAGE plpgsql
VOLATILE
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  v_incarnation integer;
  v_fenced_by   integer;
BEGIN
  IF nullif(btrim(p_reason), '') IS NULL THEN
    RAISE EXCEPTION USING
      ERRCODE = 'IU006',
      MESSAGE = 'giving up events needs a reason',
      HINT    = 'Say why: --reason "..."';
  END IF;

  SELECT tree.incarnation INTO v_incarnation
    FROM public.iu_tree AS tree
   WHERE tree.tree_id = p_tree_id
     FOR UPDATE;
  SELECT greatest(v_incarnation, max(abandoned.fenced_by)) INTO v_incarnation
    FROM public.iu_abandoned_event AS abandoned
   WHERE abandoned.tree_id = p_tree_id;
  v_fenced_by := greatest(v_incarnation, p_incarnation_seen) + 1;

  INSERT INTO public.iu_abandoned_event
    (event_ref, event_type, tree_id, version, incarnation, fenced_by, topic, partition, "offset", digest, reason)
  SELECT given.event_ref, given.event_type, p_tree_id, given.version, given.incarnation, v_fenced_by,
         p_topic, given.partition, given."offset", decode(given.digest, 'hex'), btrim(p_reason)
    FROM jsonb_to_recordset(p_events) AS given
         (event_ref uuid, event_type text, version bigint, incarnation integer, partition integer,
          "offset" bigint, digest text)
   WHERE NOT EXISTS (SELECT FROM public.iu_event AS event WHERE event.event_ref = given.event_ref)
   ORDER BY given."offset"
      ON CONFLICT (event_ref) DO NOTHING;
  IF NOT FOUND THEN
    RETURN v_incarnation;
  END IF;

  UPDATE public.iu_tree AS tree
     SET incarnation = v_fenced_by
   WHERE tree.tree_id = p_tree_id;
  RETURN v_fenced_by;
END;
$$;

ALTER FUNCTION public.fn_iu_rebase_abandon(uuid, integer, text, jsonb, text) OWNER TO iu_owner;

COMMENT ON FUNCTION public.fn_iu_rebase_abandon(uuid, integer, text, jsonb, text) IS
  'Gives up published events of one tree, an array of {event_ref, event_type, version, incarnation, partition, offset, digest}; returns the tree''s incarnation.';

-- The owner's alone: `iu relay rebase` runs as the owner.
REVOKE ALL ON FUNCTION public.fn_iu_rebase_abandon(uuid, integer, text, jsonb, text) FROM PUBLIC;
-- << sql/functions/fn_iu_rebase_abandon.sql

-- >> sql/functions/fn_iu_rebase_adopt.sql
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
-- << sql/functions/fn_iu_rebase_adopt.sql

-- ---------------------------------------------------------------------------------------
-- Delivery refuses what was given up.
-- ---------------------------------------------------------------------------------------

-- >> sql/functions/delivery/fn_iu_route_event.sql
-- fn_iu_route_event looks up the event that is to be delivered: its row of the outbox.
--
-- Where the row was pruned, the event comes by value: the caller's payload, if it is the one
-- whose digest the stub kept, in a row made up of the stub's columns; id, bucket, datum and
-- what else no delivery looks at are NULL there.  STABLE is needed: both look-ups then see one
-- snapshot, and in one snapshot an event is in exactly one of the two places.
--
-- An event that was given up after a restore is refused by name and for good (IU022): it stands
-- on the topic for ever, and its tree has gone on without it. That is asked first, so that no
-- row of the same name can bring it back.
--
-- IU001 if it is known nowhere; IU020 if the payload is not the one that was written.

CREATE OR REPLACE FUNCTION public.fn_iu_route_event(p_event_ref uuid, p_payload jsonb)
RETURNS public.event_outbox
LANGUAGE plpgsql
STABLE
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  v_abandoned public.iu_abandoned_event;
  v_event     public.event_outbox;
  v_stub      public.event_outbox_stub;
BEGIN
  SELECT abandoned.* INTO v_abandoned
    FROM public.iu_abandoned_event AS abandoned
   WHERE abandoned.event_ref = p_event_ref;
  IF FOUND THEN
    RAISE EXCEPTION USING
      ERRCODE = 'IU022',
      MESSAGE = 'abandoned',
      DETAIL  = format('Event %s was version %s of tree %s; it was given up at %s: %s',
                       p_event_ref, v_abandoned.version, v_abandoned.tree_id,
                       to_char(v_abandoned.abandoned_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"'),
                       v_abandoned.reason),
      HINT    = format('The tree goes on in incarnation %s. See: iu explain %s',
                       v_abandoned.fenced_by, p_event_ref);
  END IF;

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
  'The event as the outbox has it, or by value checked against its stub; IU022 given up, IU001 unknown, IU020 another payload. Internal.';

REVOKE ALL ON FUNCTION public.fn_iu_route_event(uuid, jsonb) FROM PUBLIC;
-- << sql/functions/delivery/fn_iu_route_event.sql

COMMIT;
