-- Undoes 001. With the switches goes their audit trail: keep a dump of dot_config_audit.

BEGIN;
SET LOCAL ROLE iu_owner;

DROP FUNCTION public.fn_iu_config_set(text, text, text);
DROP TABLE public.dot_config_audit;
DROP TABLE public.dot_config;
DROP FUNCTION public.fn_iu_dot_config_audit();
DROP FUNCTION public.fn_iu_config_opens(text, text, text);
DROP FUNCTION public.fn_iu_reason();
DROP FUNCTION public.fn_iu_gate_queue();
DROP FUNCTION public.fn_iu_append_only();
DROP FUNCTION public.fn_iu_uuid_v7();

COMMIT;
