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
