-- 002: units, the tree each one stands in, and what stood before the first event.

BEGIN;
SET LOCAL ROLE iu_owner;

-- ---------------------------------------------------------------------------------------
-- The tree head.
-- One row per tree, locked FOR UPDATE before anything of the tree is written: it serialises
-- the operations of one tree, keeps cycles out, and counts the events.
-- ---------------------------------------------------------------------------------------

CREATE TABLE public.iu_tree (
  tree_id     uuid NOT NULL,
  version     bigint NOT NULL DEFAULT 0,
  incarnation integer NOT NULL DEFAULT 1,
  created_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
  CONSTRAINT iu_tree_pk PRIMARY KEY (tree_id),
  CONSTRAINT iu_tree_version_chk CHECK (version >= 0),
  CONSTRAINT iu_tree_incarnation_chk CHECK (incarnation >= 1)
);

COMMENT ON TABLE public.iu_tree IS
  'Head row of a tree; every structure operation locks it FOR UPDATE before it looks at a unit.';
COMMENT ON COLUMN public.iu_tree.tree_id IS 'The id of the root unit.';
COMMENT ON COLUMN public.iu_tree.version IS 'Events this tree has had in this incarnation; 0 as loaded.';
COMMENT ON COLUMN public.iu_tree.incarnation IS 'Raised when a restore abandons published events; starts at 1.';
COMMENT ON COLUMN public.iu_tree.created_at IS 'When the head row was made.';

-- ---------------------------------------------------------------------------------------
-- Units.
-- An adjacency list: moving a subtree is one row, however large the subtree is.
-- ---------------------------------------------------------------------------------------

-- >> sql/functions/fn_iu_content_digest.sql
-- fn_iu_content_digest is the SHA-256 of a unit's text in UTF-8, its bytes as a file has them.

CREATE OR REPLACE FUNCTION public.fn_iu_content_digest(p_content text)
RETURNS bytea
LANGUAGE sql
STABLE
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
  SELECT sha256(convert_to(p_content, 'UTF8'));
$$;

ALTER FUNCTION public.fn_iu_content_digest(text) OWNER TO iu_owner;

COMMENT ON FUNCTION public.fn_iu_content_digest(text) IS
  'SHA-256 of the UTF-8 bytes of a text; 32 bytes.';

REVOKE ALL ON FUNCTION public.fn_iu_content_digest(text) FROM PUBLIC;
-- << sql/functions/fn_iu_content_digest.sql

CREATE TABLE public.information_unit (
  id             uuid NOT NULL,
  tree_id        uuid NOT NULL,
  iu_code        text NOT NULL,
  doc_code       text,
  parent_id      uuid,
  ordinal        integer NOT NULL,
  content        text NOT NULL,
  content_digest bytea NOT NULL,
  lifecycle      text NOT NULL,
  frozen         boolean NOT NULL DEFAULT false,
  created_at     timestamptz NOT NULL DEFAULT clock_timestamp(),
  CONSTRAINT information_unit_pk PRIMARY KEY (id),
  CONSTRAINT information_unit_iu_code_uq UNIQUE (iu_code),
  CONSTRAINT information_unit_tree_uq UNIQUE (tree_id, id),
  -- Deferrable, so that one UPDATE may move a run of siblings through each other's places.
  CONSTRAINT information_unit_ordinal_uq UNIQUE (parent_id, ordinal) DEFERRABLE INITIALLY IMMEDIATE,
  CONSTRAINT information_unit_tree_fk FOREIGN KEY (tree_id) REFERENCES public.iu_tree (tree_id),
  -- Over both columns: a parent in another tree cannot be written at all.
  CONSTRAINT information_unit_parent_fk FOREIGN KEY (tree_id, parent_id)
    REFERENCES public.information_unit (tree_id, id),
  CONSTRAINT information_unit_root_chk CHECK ((parent_id IS NULL) = (id = tree_id)),
  -- No blanks: a code is one word in a command, a list and the lines of a baseline digest.
  CONSTRAINT information_unit_iu_code_chk CHECK (iu_code ~ '^[^[:space:][:cntrl:]]{1,200}$'),
  CONSTRAINT information_unit_doc_code_chk CHECK (doc_code ~ '^[^[:space:][:cntrl:]]{1,200}$'),
  CONSTRAINT information_unit_ordinal_chk CHECK (ordinal >= 0),
  CONSTRAINT information_unit_digest_chk CHECK (content_digest = sha256(convert_to(content, 'UTF8'))),
  CONSTRAINT information_unit_lifecycle_chk CHECK (lifecycle IN ('draft', 'enacted', 'deprecated'))
);

COMMENT ON TABLE public.information_unit IS
  'The pieces of documents, arranged in trees. Changed by fn_iu_structure_op_* only; nothing is deleted.';
COMMENT ON COLUMN public.information_unit.id IS 'Stable for ever, also when the unit is deprecated.';
COMMENT ON COLUMN public.information_unit.tree_id IS 'Its tree; never changes, because operations across trees are refused.';
COMMENT ON COLUMN public.information_unit.iu_code IS 'The name people use, such as pilot.iu0.test-001; case-sensitive, unique over all trees.';
COMMENT ON COLUMN public.information_unit.doc_code IS 'The document; NULL for a unit outside any.';
COMMENT ON COLUMN public.information_unit.parent_id IS 'NULL for the root alone.';
COMMENT ON COLUMN public.information_unit.ordinal IS 'Place among siblings, from 0; may have gaps; a deprecated unit keeps its own.';
COMMENT ON COLUMN public.information_unit.content IS 'The text of this piece alone, without its children.';
COMMENT ON COLUMN public.information_unit.content_digest IS 'SHA-256 of the UTF-8 bytes of content.';
COMMENT ON COLUMN public.information_unit.lifecycle IS 'draft, enacted or deprecated.';
COMMENT ON COLUMN public.information_unit.frozen IS 'True: operations on it are refused with IU005.';
COMMENT ON COLUMN public.information_unit.created_at IS 'When the row was made.';

-- ---------------------------------------------------------------------------------------
-- What replaces what.
-- Kept beside the tree, because a successor may stand in another tree than its predecessor.
-- ---------------------------------------------------------------------------------------

CREATE TABLE public.iu_unit_supersedes (
  successor_id   uuid NOT NULL,
  predecessor_id uuid NOT NULL,
  operation_id   uuid NOT NULL,
  CONSTRAINT iu_unit_supersedes_pk PRIMARY KEY (successor_id, predecessor_id),
  CONSTRAINT iu_unit_supersedes_successor_fk FOREIGN KEY (successor_id)
    REFERENCES public.information_unit (id),
  CONSTRAINT iu_unit_supersedes_predecessor_fk FOREIGN KEY (predecessor_id)
    REFERENCES public.information_unit (id),
  CONSTRAINT iu_unit_supersedes_self_chk CHECK (successor_id <> predecessor_id)
);

CREATE INDEX iu_unit_supersedes_predecessor_idx ON public.iu_unit_supersedes (predecessor_id);

COMMENT ON TABLE public.iu_unit_supersedes IS 'Which unit took the place of which; append-only.';
COMMENT ON COLUMN public.iu_unit_supersedes.successor_id IS 'The newer unit.';
COMMENT ON COLUMN public.iu_unit_supersedes.predecessor_id IS 'The unit it took over from.';
COMMENT ON COLUMN public.iu_unit_supersedes.operation_id IS 'The operation that said so.';
COMMENT ON INDEX public.iu_unit_supersedes_predecessor_idx IS 'What became of a unit.';

-- ---------------------------------------------------------------------------------------
-- Baselines.
-- Units that no event made can be rebuilt only from a record of how they were loaded.
-- ---------------------------------------------------------------------------------------

CREATE TABLE public.iu_tree_baseline (
  tree_id   uuid NOT NULL,
  version   bigint NOT NULL,
  units     jsonb NOT NULL,
  digest    bytea NOT NULL,
  actor     text NOT NULL,
  reason    text NOT NULL,
  loaded_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  CONSTRAINT iu_tree_baseline_pk PRIMARY KEY (tree_id, version),
  CONSTRAINT iu_tree_baseline_tree_fk FOREIGN KEY (tree_id) REFERENCES public.iu_tree (tree_id),
  CONSTRAINT iu_tree_baseline_version_chk CHECK (version >= 0),
  CONSTRAINT iu_tree_baseline_units_chk CHECK (jsonb_typeof(units) = 'array'),
  CONSTRAINT iu_tree_baseline_digest_chk CHECK (octet_length(digest) = 32),
  CONSTRAINT iu_tree_baseline_actor_chk CHECK (btrim(actor) <> ''),
  CONSTRAINT iu_tree_baseline_reason_chk CHECK (btrim(reason) <> '')
);

COMMENT ON TABLE public.iu_tree_baseline IS
  'A tree as it stood at a version without the events before it; append-only.';
COMMENT ON COLUMN public.iu_tree_baseline.tree_id IS 'The tree.';
COMMENT ON COLUMN public.iu_tree_baseline.version IS 'Events up to this version are contained; 0 as loaded.';
COMMENT ON COLUMN public.iu_tree_baseline.units IS
  'Array, sorted by id, of {id, parent_id, ordinal, iu_code, lifecycle, content_digest (hex)}.';
COMMENT ON COLUMN public.iu_tree_baseline.digest IS
  'SHA-256 of the UTF-8 lines "id TAB parent_id TAB ordinal TAB iu_code TAB lifecycle TAB content_digest LF", one per unit in the order of units; an absent parent_id is empty.';
COMMENT ON COLUMN public.iu_tree_baseline.actor IS 'Who loaded it.';
COMMENT ON COLUMN public.iu_tree_baseline.reason IS 'Why, or from where.';
COMMENT ON COLUMN public.iu_tree_baseline.loaded_at IS 'When.';

-- >> sql/functions/fn_iu_tree_baseline_digest.sql
-- fn_iu_tree_baseline_digest is one digest over a tree as it stood before its first event.
--
-- It is taken over a text, not over the jsonb, because another language must be able to make
-- it: one line per unit, in the order of the array, each line ended by LF, its fields
-- separated by TAB:
--
--   id TAB parent_id TAB ordinal TAB iu_code TAB lifecycle TAB content_digest LF
--
-- An absent parent_id is the empty field. No field can hold a TAB or LF: iu_code is checked
-- to have no blanks. The digest is the SHA-256 of that text in UTF-8.

CREATE OR REPLACE FUNCTION public.fn_iu_tree_baseline_digest(p_units jsonb)
RETURNS bytea
LANGUAGE sql
STABLE
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
  SELECT sha256(convert_to(coalesce(string_agg(
           concat_ws(E'\t',
             each.unit ->> 'id', coalesce(each.unit ->> 'parent_id', ''), each.unit ->> 'ordinal',
             each.unit ->> 'iu_code', each.unit ->> 'lifecycle', each.unit ->> 'content_digest'
           ) || E'\n', '' ORDER BY each.position), ''), 'UTF8'))
    FROM jsonb_array_elements(p_units) WITH ORDINALITY AS each (unit, position);
$$;

ALTER FUNCTION public.fn_iu_tree_baseline_digest(jsonb) OWNER TO iu_owner;

COMMENT ON FUNCTION public.fn_iu_tree_baseline_digest(jsonb) IS
  'SHA-256 over the lines "id TAB parent_id TAB ordinal TAB iu_code TAB lifecycle TAB content_digest LF" of a baseline.';

REVOKE ALL ON FUNCTION public.fn_iu_tree_baseline_digest(jsonb) FROM PUBLIC;
-- << sql/functions/fn_iu_tree_baseline_digest.sql

-- >> sql/functions/fn_iu_tree_baseline_load.sql
-- fn_iu_tree_baseline_load brings in one whole tree that no event has made, at version 0, and
-- writes down what it brought: without that record the tree could not be rebuilt from events.
--
-- The owner's alone. It makes no event and asks no gate, because it changes no structure that
-- anybody has seen: a tree that exists already is refused by the key of its head row.
--
-- Constraints hold most of the shape (one tree, unique places, known parents). They cannot
-- see a ring of units that hang on each other and on no root, so the walk down must reach all.

CREATE OR REPLACE FUNCTION public.fn_iu_tree_baseline_load(p_units jsonb, p_actor text, p_reason text)
RETURNS uuid
LANGUAGE plpgsql
VOLATILE
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  v_tree_id  uuid;
  v_roots    bigint;
  v_units    bigint;
  v_reached  bigint;
  v_baseline jsonb;
BEGIN
  IF nullif(btrim(p_actor), '') IS NULL OR nullif(btrim(p_reason), '') IS NULL THEN
    RAISE EXCEPTION USING
      ERRCODE = 'IU006',
      MESSAGE = 'a baseline needs an actor and a reason',
      HINT    = 'Say who loads it and from where.';
  END IF;

  SELECT count(*), count(*) FILTER (WHERE unit.parent_id IS NULL),
         (array_agg(unit.id) FILTER (WHERE unit.parent_id IS NULL))[1]
    INTO v_units, v_roots, v_tree_id
    FROM jsonb_to_recordset(p_units) AS unit (id uuid, parent_id uuid);
  IF v_roots <> 1 THEN
    RAISE EXCEPTION USING
      ERRCODE = 'IU003',
      MESSAGE = format('a baseline is one tree, and this has %s roots', v_roots),
      DETAIL  = format('%s units, of which %s have no parent_id.', v_units, v_roots),
      HINT    = 'Load each tree with a call of its own.';
  END IF;

  INSERT INTO public.iu_tree (tree_id, version) VALUES (v_tree_id, 0);

  INSERT INTO public.information_unit
    (id, tree_id, iu_code, doc_code, parent_id, ordinal, content, content_digest, lifecycle, frozen)
  SELECT unit.id, v_tree_id, unit.iu_code, unit.doc_code, unit.parent_id, unit.ordinal,
         unit.content, public.fn_iu_content_digest(unit.content), unit.lifecycle,
         coalesce(unit.frozen, false)
    FROM jsonb_to_recordset(p_units) AS unit
         (id uuid, iu_code text, doc_code text, parent_id uuid, ordinal integer, content text,
          lifecycle text, frozen boolean);

  WITH RECURSIVE reached AS (
    SELECT v_tree_id AS id
    UNION ALL
    SELECT child.id
      FROM reached JOIN public.information_unit AS child ON child.parent_id = reached.id
  )
  SELECT count(*) INTO v_reached FROM reached;
  IF v_reached <> v_units THEN
    RAISE EXCEPTION USING
      ERRCODE = 'IU002',
      MESSAGE = format('%s of %s units do not hang on the root', v_units - v_reached, v_units),
      DETAIL  = 'Their parents form a ring.',
      HINT    = 'Correct parent_id in the data that was given.';
  END IF;

  SELECT jsonb_agg(jsonb_build_object(
           'id', unit.id, 'parent_id', unit.parent_id, 'ordinal', unit.ordinal,
           'iu_code', unit.iu_code, 'lifecycle', unit.lifecycle,
           'content_digest', encode(unit.content_digest, 'hex')) ORDER BY unit.id)
    INTO v_baseline
    FROM public.information_unit AS unit
   WHERE unit.tree_id = v_tree_id;

  INSERT INTO public.iu_tree_baseline (tree_id, version, units, digest, actor, reason)
  VALUES (v_tree_id, 0, v_baseline, public.fn_iu_tree_baseline_digest(v_baseline),
          btrim(p_actor), btrim(p_reason));
  RETURN v_tree_id;
END;
$$;

ALTER FUNCTION public.fn_iu_tree_baseline_load(jsonb, text, text) OWNER TO iu_owner;

COMMENT ON FUNCTION public.fn_iu_tree_baseline_load(jsonb, text, text) IS
  'Loads one tree, an array of {id, iu_code, doc_code, parent_id, ordinal, content, lifecycle, frozen}, with its baseline; returns its tree_id.';

REVOKE ALL ON FUNCTION public.fn_iu_tree_baseline_load(jsonb, text, text) FROM PUBLIC;
-- << sql/functions/fn_iu_tree_baseline_load.sql

-- ---------------------------------------------------------------------------------------
-- Nothing is deleted, and history is not changed.
-- Units and heads are updated by operations, so for them only DELETE and TRUNCATE are refused.
-- ---------------------------------------------------------------------------------------

CREATE TRIGGER trg_iu_tree_no_delete
  BEFORE DELETE OR TRUNCATE ON public.iu_tree
  FOR EACH STATEMENT EXECUTE FUNCTION public.fn_iu_append_only();
ALTER TABLE public.iu_tree ENABLE ALWAYS TRIGGER trg_iu_tree_no_delete;
COMMENT ON TRIGGER trg_iu_tree_no_delete ON public.iu_tree IS 'A tree is never deleted.';

CREATE TRIGGER trg_information_unit_no_delete
  BEFORE DELETE OR TRUNCATE ON public.information_unit
  FOR EACH STATEMENT EXECUTE FUNCTION public.fn_iu_append_only();
ALTER TABLE public.information_unit ENABLE ALWAYS TRIGGER trg_information_unit_no_delete;
COMMENT ON TRIGGER trg_information_unit_no_delete ON public.information_unit IS
  'A unit is deprecated, never deleted.';

CREATE TRIGGER trg_iu_unit_supersedes_append_only
  BEFORE UPDATE OR DELETE OR TRUNCATE ON public.iu_unit_supersedes
  FOR EACH STATEMENT EXECUTE FUNCTION public.fn_iu_append_only();
ALTER TABLE public.iu_unit_supersedes ENABLE ALWAYS TRIGGER trg_iu_unit_supersedes_append_only;
COMMENT ON TRIGGER trg_iu_unit_supersedes_append_only ON public.iu_unit_supersedes IS
  'Who succeeded whom is history.';

CREATE TRIGGER trg_iu_tree_baseline_append_only
  BEFORE UPDATE OR DELETE OR TRUNCATE ON public.iu_tree_baseline
  FOR EACH STATEMENT EXECUTE FUNCTION public.fn_iu_append_only();
ALTER TABLE public.iu_tree_baseline ENABLE ALWAYS TRIGGER trg_iu_tree_baseline_append_only;
COMMENT ON TRIGGER trg_iu_tree_baseline_append_only ON public.iu_tree_baseline IS
  'What a rebuild starts from must not change.';

-- ---------------------------------------------------------------------------------------
-- Privileges: an editor has to see the tree it works on; it changes it by operations only.
-- ---------------------------------------------------------------------------------------

GRANT SELECT ON public.iu_tree, public.information_unit TO iu_editor;
GRANT SELECT ON public.iu_tree, public.information_unit, public.iu_unit_supersedes,
  public.iu_tree_baseline TO iu_reader;

COMMIT;
