-- Undoes 002. Every unit and its text goes: keep a dump.

BEGIN;
SET LOCAL ROLE iu_owner;

DROP FUNCTION public.fn_iu_tree_baseline_load(jsonb, text, text);
DROP FUNCTION public.fn_iu_tree_baseline_digest(jsonb);
DROP TABLE public.iu_tree_baseline;
DROP TABLE public.iu_unit_supersedes;
DROP TABLE public.information_unit;
DROP FUNCTION public.fn_iu_content_digest(text);
DROP TABLE public.iu_tree;

COMMIT;
