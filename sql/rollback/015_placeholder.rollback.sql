-- Undoes 015.

BEGIN;
SET LOCAL ROLE iu_owner;

COMMIT;
