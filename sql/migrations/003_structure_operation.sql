-- 003: the record of every structure operation, and the gate in front of them all.

BEGIN;
SET LOCAL ROLE iu_owner;

-- ---------------------------------------------------------------------------------------
-- One row per operation.
-- Written in the operation's own transaction, so a refused one leaves nothing: planned and
-- refused are there for what a later store may want to keep about plans.
-- ---------------------------------------------------------------------------------------

CREATE TABLE public.iu_structure_operation (
  id                uuid NOT NULL,
  kind              text NOT NULL,
  tree_id           uuid NOT NULL,
  subject_id        uuid NOT NULL,
  arguments         jsonb NOT NULL,
  actor             text NOT NULL,
  reason            text NOT NULL,
  status            text NOT NULL,
  event_ref         uuid,
  aggregate_version bigint,
  requested_at      timestamptz NOT NULL DEFAULT clock_timestamp(),
  CONSTRAINT iu_structure_operation_pk PRIMARY KEY (id),
  CONSTRAINT iu_structure_operation_event_uq UNIQUE (event_ref),
  CONSTRAINT iu_structure_operation_tree_fk FOREIGN KEY (tree_id) REFERENCES public.iu_tree (tree_id),
  CONSTRAINT iu_structure_operation_subject_fk FOREIGN KEY (subject_id)
    REFERENCES public.information_unit (id),
  CONSTRAINT iu_structure_operation_kind_chk CHECK (
    kind IN ('reparent', 'add_new_piece', 'deprecate_piece', 'split', 'merge', 'replace')),
  CONSTRAINT iu_structure_operation_status_chk CHECK (status IN ('planned', 'enacted', 'refused')),
  CONSTRAINT iu_structure_operation_enacted_chk CHECK (
    (status = 'enacted') = (event_ref IS NOT NULL AND aggregate_version IS NOT NULL)),
  CONSTRAINT iu_structure_operation_actor_chk CHECK (btrim(actor) <> ''),
  CONSTRAINT iu_structure_operation_reason_chk CHECK (btrim(reason) <> '')
);

CREATE INDEX iu_structure_operation_tree_idx
  ON public.iu_structure_operation (tree_id, aggregate_version);
CREATE INDEX iu_structure_operation_subject_idx ON public.iu_structure_operation (subject_id);

COMMENT ON TABLE public.iu_structure_operation IS
  'Who changed the structure of which tree, how, and why; append-only.';
COMMENT ON COLUMN public.iu_structure_operation.id IS 'Time-ordered; the event names it.';
COMMENT ON COLUMN public.iu_structure_operation.kind IS 'One of the six fn_iu_structure_op_*.';
COMMENT ON COLUMN public.iu_structure_operation.tree_id IS 'The tree; an operation concerns exactly one.';
COMMENT ON COLUMN public.iu_structure_operation.subject_id IS
  'The unit operated on: the one moved, added, deprecated, split or replaced, or the first one merged.';
COMMENT ON COLUMN public.iu_structure_operation.arguments IS
  'The arguments as called; of a text only its digest, because the text stands in information_unit.';
COMMENT ON COLUMN public.iu_structure_operation.actor IS 'Who answers for it.';
COMMENT ON COLUMN public.iu_structure_operation.reason IS 'Why.';
COMMENT ON COLUMN public.iu_structure_operation.status IS 'planned, enacted or refused.';
COMMENT ON COLUMN public.iu_structure_operation.event_ref IS
  'Its event; no reference, because rows may leave event_outbox one day and history stays.';
COMMENT ON COLUMN public.iu_structure_operation.aggregate_version IS 'Version of the tree after it.';
COMMENT ON COLUMN public.iu_structure_operation.requested_at IS 'Clock when it ran.';
COMMENT ON INDEX public.iu_structure_operation_tree_idx IS 'The history of one tree, in order.';
COMMENT ON INDEX public.iu_structure_operation_subject_idx IS 'The history of one unit.';

CREATE TRIGGER trg_iu_structure_operation_append_only
  BEFORE UPDATE OR DELETE OR TRUNCATE ON public.iu_structure_operation
  FOR EACH STATEMENT EXECUTE FUNCTION public.fn_iu_append_only();
ALTER TABLE public.iu_structure_operation ENABLE ALWAYS TRIGGER trg_iu_structure_operation_append_only;
COMMENT ON TRIGGER trg_iu_structure_operation_append_only ON public.iu_structure_operation IS
  'Operations are history.';

-- ---------------------------------------------------------------------------------------
-- The edge of 002 gets its operation.
-- Here, because the table it points to did not exist before. Both tables are empty, so there is
-- nothing to scan.
-- ---------------------------------------------------------------------------------------

ALTER TABLE public.iu_unit_supersedes
  -- squawk-ignore adding-foreign-key-constraint, constraint-missing-not-valid
  ADD CONSTRAINT iu_unit_supersedes_operation_fk FOREIGN KEY (operation_id)
    REFERENCES public.iu_structure_operation (id);

-- ---------------------------------------------------------------------------------------
-- The gate.
-- ---------------------------------------------------------------------------------------

-- >> sql/functions/fn_iu_structure_op_gate.sql
-- fn_iu_structure_op_gate lets a structure operation pass, or refuses it; the gate then keeps
-- its value until the operation's transaction ends.
--
-- The lock comes first and in a statement of its own, as in fn_iu_delivery_gate and for the
-- same reasons: a close that waits for the row alone would be overtaken by every new
-- operation, and a statement that waits reads with a snapshot older than its wait.
--
-- It is another pair than the gate of deliveries, (18773, 1): an import of a large document
-- holds this one for as long as it takes, and must not hold back the kill switch.

CREATE OR REPLACE FUNCTION public.fn_iu_structure_op_gate()
RETURNS void
LANGUAGE plpgsql
VOLATILE
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  v_enabled text;
BEGIN
  -- 18773 is 'IU' in ASCII, 2 this gate.  fn_iu_config_set takes the same pair exclusively.
  PERFORM pg_advisory_xact_lock_shared(18773, 2);

  SELECT config.value INTO v_enabled
    FROM public.dot_config AS config
   WHERE config.key = 'iu_core.structure_op_enabled'
     FOR SHARE;

  -- A missing key reads as NULL: IS DISTINCT FROM denies where <> would let it pass.
  IF v_enabled IS DISTINCT FROM 'true' THEN
    RAISE insufficient_privilege USING
      MESSAGE = 'structure operations are closed',
      DETAIL  = format('iu_core.structure_op_enabled is %L', v_enabled),
      HINT    = 'Open them with: iu gate open structure --reason "..."';
  END IF;
END;
$$;

ALTER FUNCTION public.fn_iu_structure_op_gate() OWNER TO iu_owner;

COMMENT ON FUNCTION public.fn_iu_structure_op_gate() IS
  'Passes the gate of structure operations and pins it until commit, or raises 42501. Fail-closed.';

-- Whoever may call this can hold a close back, so no process role may: the operations, which
-- iu_owner owns too, call it for them.
REVOKE ALL ON FUNCTION public.fn_iu_structure_op_gate() FROM PUBLIC;
-- << sql/functions/fn_iu_structure_op_gate.sql

GRANT SELECT ON public.iu_structure_operation TO iu_reader;

COMMIT;
