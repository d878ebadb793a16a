-- fn_iu_tree_incarnation lets a tree that is made again begin where its events were given up.
--
-- A tree made after the backup is not in the restored database, but its events are on the topic.
-- Whoever makes it again under the same id would otherwise begin at version 1 of incarnation 1
-- for a second time.

CREATE OR REPLACE FUNCTION public.fn_iu_tree_incarnation()
RETURNS trigger
LANGUAGE plpgsql
VOLATILE
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  SELECT greatest(NEW.incarnation, max(abandoned.fenced_by)) INTO NEW.incarnation
    FROM public.iu_abandoned_event AS abandoned
   WHERE abandoned.tree_id = NEW.tree_id;
  RETURN NEW;
END;
$$;

ALTER FUNCTION public.fn_iu_tree_incarnation() OWNER TO iu_owner;

COMMENT ON FUNCTION public.fn_iu_tree_incarnation() IS
  'Trigger: a new tree takes the incarnation that follows its abandoned events.';

REVOKE ALL ON FUNCTION public.fn_iu_tree_incarnation() FROM PUBLIC;
