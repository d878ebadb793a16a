-- Generated from schemas/structure/structure_reparented/v1.avsc by `iu schemas sql`.
-- Do not edit: `iu schemas check` compares this file with its contract.
--
-- fn_iu_avro_structure_reparented_v1 makes the Avro datum of one event, without wire
-- prefix, as fastavro makes it. It takes the payload whole: each field there, none besides,
-- each in its one spelling; anything else is refused with IU021, which names the field.
-- Needs avro_primitives.sql; why the functions are plpgsql and who has a SET stands there.

CREATE OR REPLACE FUNCTION public.fn_iu_avro_structure_reparented_v1(p_payload jsonb)
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
    RETURN public.fn_iu_avro_refuse('structure_reparented', 'an object', p_payload);
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
    'old_parent_id',
    'old_ordinal',
    'new_parent_id',
    'new_ordinal'
  ];
  IF v_unknown <> '{}' THEN
    RETURN public.fn_iu_avro_refuse('structure_reparented', 'no field besides those of the contract', v_unknown);
  END IF;
  RETURN public.fn_iu_avro_uuid(p_payload -> 'event_ref', 'structure_reparented.event_ref')
    || public.fn_iu_avro_timestamp_micros(p_payload -> 'occurred_at', 'structure_reparented.occurred_at')
    || public.fn_iu_avro_uuid(p_payload -> 'tree_id', 'structure_reparented.tree_id')
    || public.fn_iu_avro_int(p_payload -> 'incarnation', 'structure_reparented.incarnation')
    || public.fn_iu_avro_long(p_payload -> 'aggregate_version', 'structure_reparented.aggregate_version')
    || public.fn_iu_avro_uuid(p_payload -> 'operation_id', 'structure_reparented.operation_id')
    || public.fn_iu_avro_string(p_payload -> 'actor', 'structure_reparented.actor')
    || public.fn_iu_avro_string(p_payload -> 'reason', 'structure_reparented.reason')
    || CASE jsonb_typeof(p_payload -> 'doc_code') WHEN 'null' THEN '\x00'::bytea
         ELSE '\x02'::bytea || public.fn_iu_avro_string(p_payload -> 'doc_code', 'structure_reparented.doc_code') END
    || public.fn_iu_avro_uuid(p_payload -> 'unit_id', 'structure_reparented.unit_id')
    || public.fn_iu_avro_string(p_payload -> 'iu_code', 'structure_reparented.iu_code')
    || public.fn_iu_avro_uuid(p_payload -> 'old_parent_id', 'structure_reparented.old_parent_id')
    || public.fn_iu_avro_int(p_payload -> 'old_ordinal', 'structure_reparented.old_ordinal')
    || public.fn_iu_avro_uuid(p_payload -> 'new_parent_id', 'structure_reparented.new_parent_id')
    || public.fn_iu_avro_int(p_payload -> 'new_ordinal', 'structure_reparented.new_ordinal');
END;
$$;

ALTER FUNCTION public.fn_iu_avro_structure_reparented_v1(jsonb) OWNER TO iu_owner;
COMMENT ON FUNCTION public.fn_iu_avro_structure_reparented_v1(jsonb) IS
  'Avro datum of a structure_reparented payload, version 1, or IU021. Internal.';
REVOKE ALL ON FUNCTION public.fn_iu_avro_structure_reparented_v1(jsonb) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION public.fn_iu_avro_structure_reparented_v1(jsonb) TO iu_owner;
