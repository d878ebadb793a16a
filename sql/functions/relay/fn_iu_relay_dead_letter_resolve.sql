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
