-- Undoes runtime 010. A missing key is a closed gate, so nothing opens.

BEGIN;
SET LOCAL ROLE iu_owner;

DELETE FROM public.dot_config WHERE key = 'iu_core.structure_op_enabled';

COMMIT;
