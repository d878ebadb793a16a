-- Undoes 003. The record of who changed what goes with it: keep a dump.

BEGIN;
SET LOCAL ROLE iu_owner;

DROP FUNCTION public.fn_iu_structure_op_gate();
ALTER TABLE public.iu_unit_supersedes DROP CONSTRAINT iu_unit_supersedes_operation_fk;
DROP TABLE public.iu_structure_operation;

COMMIT;
