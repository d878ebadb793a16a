-- fn_iu_relay_dead_letter_ends says, for each partition of the dead-letter topic, up to which
-- offset its letters are in the table.
--
-- Whoever fills the table asks this first and remembers nothing itself. Offsets of a topic that
-- was deleted and made again mean nothing, so they are asked for by the topic's id.

CREATE OR REPLACE FUNCTION public.fn_iu_relay_dead_letter_ends(p_topic_id text)
RETURNS TABLE ("partition" integer, last_offset bigint)
LANGUAGE sql
STABLE
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
  SELECT letter.partition, max(letter.last_offset)
    FROM public.iu_relay_dead_letter AS letter
   WHERE letter.topic_id = p_topic_id
   GROUP BY letter.partition;
$$;

ALTER FUNCTION public.fn_iu_relay_dead_letter_ends(text) OWNER TO iu_owner;

COMMENT ON FUNCTION public.fn_iu_relay_dead_letter_ends(text) IS
  'Highest offset of a recorded letter, by partition of the dead-letter topic with this id.';

REVOKE ALL ON FUNCTION public.fn_iu_relay_dead_letter_ends(text) FROM PUBLIC;
-- The relay has no privilege on the table: this is how it knows where to go on.
GRANT EXECUTE ON FUNCTION public.fn_iu_relay_dead_letter_ends(text) TO iu_relay;
