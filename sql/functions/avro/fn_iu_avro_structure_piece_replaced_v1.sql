-- Generated from schemas/structure/structure_piece_replaced/v1.avsc by `iu schemas sql`.
-- Do not edit: `iu schemas check` compares this file with its contract.
--
-- fn_iu_avro_structure_piece_replaced_v1 makes the Avro datum of one event, without wire
-- prefix, as fastavro makes it. It takes the payload whole: each field there, none besides,
-- each in its one spelling; anything else is refused with IU021, which names the field.
-- Needs avro_primitives.sql; why the functions are plpgsql and who has a SET stands there.

CREATE OR REPLACE FUNCTION public.fn_iu_avro_structure_piece_replaced_v1_lifecycle(p_value jsonb, p_path text)
RETURNS bytea
LANGUAGE plpgsql
STABLE
PARALLEL SAFE
AS $$
BEGIN
  -- An object or a number reads as text too, but never as one of these.
  RETURN CASE p_value #>> '{}'
    WHEN 'draft' THEN '\x02'::bytea
    WHEN 'enacted' THEN '\x04'::bytea
    WHEN 'deprecated' THEN '\x06'::bytea
    ELSE public.fn_iu_avro_refuse(p_path, 'one of draft, enacted, deprecated', p_value)
  END;
END;
$$;

ALTER FUNCTION public.fn_iu_avro_structure_piece_replaced_v1_lifecycle(jsonb, text) OWNER TO iu_owner;
COMMENT ON FUNCTION public.fn_iu_avro_structure_piece_replaced_v1_lifecycle(jsonb, text) IS
  'Avro enum Lifecycle of structure_piece_replaced, version 1, or IU021. Internal.';
REVOKE ALL ON FUNCTION public.fn_iu_avro_structure_piece_replaced_v1_lifecycle(jsonb, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION public.fn_iu_avro_structure_piece_replaced_v1_lifecycle(jsonb, text) TO iu_owner;

CREATE OR REPLACE FUNCTION public.fn_iu_avro_structure_piece_replaced_v1_piece(p_value jsonb, p_path text)
RETURNS bytea
LANGUAGE plpgsql
STABLE
PARALLEL SAFE
AS $$
DECLARE
  v_unknown jsonb;
BEGIN
  IF jsonb_typeof(p_value) IS DISTINCT FROM 'object' THEN
    RETURN public.fn_iu_avro_refuse(p_path, 'an object', p_value);
  END IF;
  v_unknown := p_value - ARRAY[
    'unit_id',
    'iu_code',
    'ordinal',
    'lifecycle',
    'content_digest',
    'content_bytes'
  ];
  IF v_unknown <> '{}' THEN
    RETURN public.fn_iu_avro_refuse(p_path, 'no field besides those of the contract', v_unknown);
  END IF;
  RETURN public.fn_iu_avro_uuid(p_value -> 'unit_id', p_path || '.unit_id')
    || public.fn_iu_avro_string(p_value -> 'iu_code', p_path || '.iu_code')
    || public.fn_iu_avro_int(p_value -> 'ordinal', p_path || '.ordinal')
    || public.fn_iu_avro_structure_piece_replaced_v1_lifecycle(p_value -> 'lifecycle', p_path || '.lifecycle')
    || public.fn_iu_avro_fixed(p_value -> 'content_digest', 32, p_path || '.content_digest')
    || public.fn_iu_avro_long(p_value -> 'content_bytes', p_path || '.content_bytes');
END;
$$;

ALTER FUNCTION public.fn_iu_avro_structure_piece_replaced_v1_piece(jsonb, text) OWNER TO iu_owner;
COMMENT ON FUNCTION public.fn_iu_avro_structure_piece_replaced_v1_piece(jsonb, text) IS
  'Avro record Piece of structure_piece_replaced, version 1, or IU021. Internal.';
REVOKE ALL ON FUNCTION public.fn_iu_avro_structure_piece_replaced_v1_piece(jsonb, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION public.fn_iu_avro_structure_piece_replaced_v1_piece(jsonb, text) TO iu_owner;

CREATE OR REPLACE FUNCTION public.fn_iu_avro_structure_piece_replaced_v1_moved_child(p_value jsonb, p_path text)
RETURNS bytea
LANGUAGE plpgsql
STABLE
PARALLEL SAFE
AS $$
DECLARE
  v_unknown jsonb;
BEGIN
  IF jsonb_typeof(p_value) IS DISTINCT FROM 'object' THEN
    RETURN public.fn_iu_avro_refuse(p_path, 'an object', p_value);
  END IF;
  v_unknown := p_value - ARRAY[
    'unit_id',
    'parent_id',
    'ordinal'
  ];
  IF v_unknown <> '{}' THEN
    RETURN public.fn_iu_avro_refuse(p_path, 'no field besides those of the contract', v_unknown);
  END IF;
  RETURN public.fn_iu_avro_uuid(p_value -> 'unit_id', p_path || '.unit_id')
    || public.fn_iu_avro_uuid(p_value -> 'parent_id', p_path || '.parent_id')
    || public.fn_iu_avro_int(p_value -> 'ordinal', p_path || '.ordinal');
END;
$$;

ALTER FUNCTION public.fn_iu_avro_structure_piece_replaced_v1_moved_child(jsonb, text) OWNER TO iu_owner;
COMMENT ON FUNCTION public.fn_iu_avro_structure_piece_replaced_v1_moved_child(jsonb, text) IS
  'Avro record MovedChild of structure_piece_replaced, version 1, or IU021. Internal.';
REVOKE ALL ON FUNCTION public.fn_iu_avro_structure_piece_replaced_v1_moved_child(jsonb, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION public.fn_iu_avro_structure_piece_replaced_v1_moved_child(jsonb, text) TO iu_owner;

CREATE OR REPLACE FUNCTION public.fn_iu_avro_structure_piece_replaced_v1_each_moved_child(p_value jsonb, p_path text)
RETURNS bytea
LANGUAGE plpgsql
STABLE
PARALLEL SAFE
AS $$
BEGIN
  IF jsonb_typeof(p_value) IS DISTINCT FROM 'array' THEN
    RETURN public.fn_iu_avro_refuse(p_path, 'an array', p_value);
  END IF;
  IF jsonb_array_length(p_value) = 0 THEN
    RETURN '\x00'::bytea;
  END IF;
  -- One block with its count, then the empty block that ends an array.
  RETURN public.fn_iu_avro_number(jsonb_array_length(p_value)) || (
    SELECT string_agg(
             public.fn_iu_avro_structure_piece_replaced_v1_moved_child(each.item, p_path || '[' || (each.position - 1) || ']'),
             ''::bytea ORDER BY each.position)
      FROM jsonb_array_elements(p_value) WITH ORDINALITY AS each (item, position)
  ) || '\x00'::bytea;
END;
$$;

ALTER FUNCTION public.fn_iu_avro_structure_piece_replaced_v1_each_moved_child(jsonb, text) OWNER TO iu_owner;
COMMENT ON FUNCTION public.fn_iu_avro_structure_piece_replaced_v1_each_moved_child(jsonb, text) IS
  'Avro array of structure_piece_replaced, version 1, or IU021. Internal.';
REVOKE ALL ON FUNCTION public.fn_iu_avro_structure_piece_replaced_v1_each_moved_child(jsonb, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION public.fn_iu_avro_structure_piece_replaced_v1_each_moved_child(jsonb, text) TO iu_owner;

CREATE OR REPLACE FUNCTION public.fn_iu_avro_structure_piece_replaced_v1(p_payload jsonb)
RETURNS bytea
LANGUAGE plpgsql
STABLE
PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  v_unknown jsonb;
BEGIN
  IF jsonb_typeof(p_payload) IS DISTINCT FROM 'object' THEN
    RETURN public.fn_iu_avro_refuse('structure_piece_replaced', 'an object', p_payload);
  END IF;
  v_unknown := p_payload - ARRAY[
    'event_ref',
    'occurred_at',
    'tree_id',
    'incarnation',
    'aggregate_version',
    'operation_id',
    'actor',
    'reason',
    'doc_code',
    'unit_id',
    'iu_code',
    'parent_id',
    'piece',
    'moved_children'
  ];
  IF v_unknown <> '{}' THEN
    RETURN public.fn_iu_avro_refuse('structure_piece_replaced', 'no field besides those of the contract', v_unknown);
  END IF;
  RETURN public.fn_iu_avro_uuid(p_payload -> 'event_ref', 'structure_piece_replaced.event_ref')
    || public.fn_iu_avro_timestamp_micros(p_payload -> 'occurred_at', 'structure_piece_replaced.occurred_at')
    || public.fn_iu_avro_uuid(p_payload -> 'tree_id', 'structure_piece_replaced.tree_id')
    || public.fn_iu_avro_int(p_payload -> 'incarnation', 'structure_piece_replaced.incarnation')
    || public.fn_iu_avro_long(p_payload -> 'aggregate_version', 'structure_piece_replaced.aggregate_version')
    || public.fn_iu_avro_uuid(p_payload -> 'operation_id', 'structure_piece_replaced.operation_id')
    || public.fn_iu_avro_string(p_payload -> 'actor', 'structure_piece_replaced.actor')
    || public.fn_iu_avro_string(p_payload -> 'reason', 'structure_piece_replaced.reason')
    || CASE jsonb_typeof(p_payload -> 'doc_code') WHEN 'null' THEN '\x00'::bytea
         ELSE '\x02'::bytea || public.fn_iu_avro_string(p_payload -> 'doc_code', 'structure_piece_replaced.doc_code') END
    || public.fn_iu_avro_uuid(p_payload -> 'unit_id', 'structure_piece_replaced.unit_id')
    || public.fn_iu_avro_string(p_payload -> 'iu_code', 'structure_piece_replaced.iu_code')
    || public.fn_iu_avro_uuid(p_payload -> 'parent_id', 'structure_piece_replaced.parent_id')
    || public.fn_iu_avro_structure_piece_replaced_v1_piece(p_payload -> 'piece', 'structure_piece_replaced.piece')
    || public.fn_iu_avro_structure_piece_replaced_v1_each_moved_child(p_payload -> 'moved_children', 'structure_piece_replaced.moved_children');
END;
$$;

ALTER FUNCTION public.fn_iu_avro_structure_piece_replaced_v1(jsonb) OWNER TO iu_owner;
COMMENT ON FUNCTION public.fn_iu_avro_structure_piece_replaced_v1(jsonb) IS
  'Avro datum of a structure_piece_replaced payload, version 1, or IU021. Internal.';
REVOKE ALL ON FUNCTION public.fn_iu_avro_structure_piece_replaced_v1(jsonb) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION public.fn_iu_avro_structure_piece_replaced_v1(jsonb) TO iu_owner;
