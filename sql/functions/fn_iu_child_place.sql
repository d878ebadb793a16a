-- fn_iu_child_place answers at which ordinal a child goes in: the one asked for, or the end.
--
-- Asked for may be anything from 0 to one past the last sibling. Further up would only make a
-- gap that nobody wanted, and each such call would bring the end of the integers nearer. A
-- unit that is moved within its parent does not count as its own sibling, but may stay where
-- it is.

CREATE OR REPLACE FUNCTION public.fn_iu_child_place(p_parent_id uuid, p_ordinal integer, p_moving uuid)
RETURNS integer
LANGUAGE plpgsql
STABLE
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  v_end integer;
  v_own integer;
BEGIN
  SELECT coalesce(max(child.ordinal) FILTER (WHERE child.id IS DISTINCT FROM p_moving) + 1, 0),
         max(child.ordinal) FILTER (WHERE child.id = p_moving)
    INTO v_end, v_own
    FROM public.information_unit AS child
   WHERE child.parent_id = p_parent_id;
  IF p_ordinal IS NULL THEN
    RETURN v_end;
  END IF;
  IF p_ordinal < 0 OR p_ordinal > greatest(v_end, v_own) THEN
    RAISE EXCEPTION USING
      ERRCODE = 'IU011',
      MESSAGE = format('ordinal %s is out of range', p_ordinal),
      DETAIL  = format('Under this parent it may be 0 to %s.', greatest(v_end, v_own)),
      HINT    = 'Leave the ordinal out to append.';
  END IF;
  RETURN p_ordinal;
END;
$$;

ALTER FUNCTION public.fn_iu_child_place(uuid, integer, uuid) OWNER TO iu_owner;

COMMENT ON FUNCTION public.fn_iu_child_place(uuid, integer, uuid) IS
  'The ordinal a child takes under a parent, NULL meaning the end; IU011. Internal.';

REVOKE ALL ON FUNCTION public.fn_iu_child_place(uuid, integer, uuid) FROM PUBLIC;
