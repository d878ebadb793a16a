-- 015: a placeholder until the branch that has this number is merged.

BEGIN;
SET LOCAL ROLE iu_owner;

COMMIT;
