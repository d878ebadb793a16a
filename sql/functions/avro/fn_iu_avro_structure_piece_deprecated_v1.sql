-- Generated from schemas/structure/structure_piece_deprecated/v1.avsc by `iu schemas sql`.
-- Do not edit: `iu schemas check` compares this file with its contract.
--
-- fn_iu_avro_structure_piece_deprecated_v1 makes the Avro datum of one event, without wire
-- prefix, as fastavro makes it. It takes the payload whole: each field there, none besides,
-- each in its one spelling; anything else is refused with IU021, which names the field.
-- Needs avro_primitives.sql; why the functions are plpgsql and who has a SET stands there.

CREATE OR REPLACE FUNCTION public.fn_iu_avro_structure_piece_deprecated_v1_lifecycle(p_value jsonb, p_path text)
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

ALTER FUNCTION public.fn_iu_avro_structure_piece_deprecated_v1_lifecycle(jsonb, text) OWNER TO iu_owner;
COMMENT ON FUNCTION public.fn_iu_avro_structure_piece_deprecated_v1_lifecycle(jsonb, text) IS
  'Avro enum Lifecycle of structure_piece_deprecated, version 1, or IU021. Internal.';
REVOKE ALL ON FUNCTION public.fn_iu_avro_structure_piece_deprecated_v1_lifecycle(jsonb, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION public.fn_iu_avro_structure_piece_deprecated_v1_lifecycle(jsonb, text) TO iu_owner;

CREATE OR REPLACE FUNCTION public.fn_iu_avro_structure_piece_deprecated_v1(p_payload jsonb)
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
    RETURN public.fn_iu_avro_refuse('structure_piece_deprecated', 'an object', p_payload);
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
    'ordinal',
    'old_lifecycle'
  ];
  IF v_unknown <> '{}' THEN
    RETURN public.fn_iu_avro_refuse('structure_piece_deprecated', 'no field besides those of the contract', v_unknown);
  END IF;
  RETURN public.fn_iu_avro_uuid(p_payload -> 'event_ref', 'structure_piece_deprecated.event_ref')
    || public.fn_iu_avro_timestamp_micros(p_payload -> 'occurred_at', 'structure_piece_deprecated.occurred_at')
    || public.fn_iu_avro_uuid(p_payload -> 'tree_id', 'structure_piece_deprecated.tree_id')
    || public.fn_iu_avro_int(p_payload -> 'incarnation', 'structure_piece_deprecated.incarnation')
    || public.fn_iu_avro_long(p_payload -> 'aggregate_version', 'structure_piece_deprecated.aggregate_version')
    || public.fn_iu_avro_uuid(p_payload -> 'operation_id', 'structure_piece_deprecated.operation_id')
    || public.fn_iu_avro_string(p_payload -> 'actor', 'structure_piece_deprecated.actor')
    || public.fn_iu_avro_string(p_payload -> 'reason', 'structure_piece_deprecated.reason')
    || CASE jsonb_typeof(p_payload -> 'doc_code') WHEN 'null' THEN '\x00'::bytea
         ELSE '\x02'::bytea || public.fn_iu_avro_string(p_payload -> 'doc_code', 'structure_piece_deprecated.doc_code') END
    || public.fn_iu_avro_uuid(p_payload -> 'unit_id', 'structure_piece_deprecated.unit_id')
    || public.fn_iu_avro_string(p_payload -> 'iu_code', 'structure_piece_deprecated.iu_code')
    || CASE jsonb_typeof(p_payload -> 'parent_id') WHEN 'null' THEN '\x00'::bytea
         ELSE '\x02'::bytea || public.fn_iu_avro_uuid(p_payload -> 'parent_id', 'structure_piece_deprecated.parent_id') END
    || public.fn_iu_avro_int(p_payload -> 'ordinal', 'structure_piece_deprecated.ordinal')
    || public.fn_iu_avro_structure_piece_deprecated_v1_lifecycle(p_payload -> 'old_lifecycle', 'structure_piece_deprecated.old_lifecycle');
END;
$$;

ALTER FUNCTION public.fn_iu_avro_structure_piece_deprecated_v1(jsonb) OWNER TO iu_owner;
COMMENT ON FUNCTION public.fn_iu_avro_structure_piece_deprecated_v1(jsonb) IS
  'Avro datum of a structure_piece_deprecated payload, version 1, or IU021. Internal.';
REVOKE ALL ON FUNCTION public.fn_iu_avro_structure_piece_deprecated_v1(jsonb) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION public.fn_iu_avro_structure_piece_deprecated_v1(jsonb) TO iu_owner;
