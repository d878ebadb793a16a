-- fn_iu_route_hold says that a route stands still in a lane, at which gate, and why.
--
-- One episode per standstill, not a row per event or per try: all processes of the group touch
-- the one that is open, and progress closes it (fn_iu_route_record).  Another gate or another
-- reason ends it and begins the next, so that the history reads as what was in the way when.
--
-- Two processes that find none open both insert; the index lets one through, and the other,
-- having waited for it, touches the episode it finds.  No gate lock is taken: a hold must be
-- written exactly while the gates are closed, and must never delay one that is closing.

CREATE OR REPLACE FUNCTION public.fn_iu_route_hold(
  p_route_code text,
  p_lane       text,
  p_gate       text,
  p_reason     text,
  p_owner      text
)
RETURNS uuid
LANGUAGE plpgsql
VOLATILE
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  v_open       public.iu_route_hold;
  v_episode_id uuid;
BEGIN
  SELECT hold.* INTO v_open
    FROM public.iu_route_hold AS hold
   WHERE hold.route_code = p_route_code AND hold.lane = p_lane AND hold.closed_at IS NULL
     FOR UPDATE;

  IF FOUND AND (v_open.gate, v_open.reason) IS DISTINCT FROM (p_gate, p_reason) THEN
    UPDATE public.iu_route_hold AS hold
       SET closed_at = clock_timestamp(), closed_by = 'another_reason'
     WHERE hold.episode_id = v_open.episode_id;
  END IF;

  INSERT INTO public.iu_route_hold AS hold (episode_id, route_code, lane, gate, reason, owner)
  VALUES (public.fn_iu_uuid_v7(), p_route_code, p_lane, p_gate, p_reason, p_owner)
      ON CONFLICT (route_code, lane) WHERE closed_at IS NULL
      DO UPDATE SET touched_at = clock_timestamp(), touches = hold.touches + 1, owner = p_owner
  RETURNING hold.episode_id INTO v_episode_id;
  RETURN v_episode_id;
END;
$$;

ALTER FUNCTION public.fn_iu_route_hold(text, text, text, text, text) OWNER TO iu_owner;

COMMENT ON FUNCTION public.fn_iu_route_hold(text, text, text, text, text) IS
  'Opens or touches the one open hold episode of (route, lane) and returns its id; another gate or reason begins a new one.';

REVOKE ALL ON FUNCTION public.fn_iu_route_hold(text, text, text, text, text) FROM PUBLIC;
-- The consumer has no table privilege: this is how it says that it waits, and for what.
GRANT EXECUTE ON FUNCTION public.fn_iu_route_hold(text, text, text, text, text) TO iu_consumer;
