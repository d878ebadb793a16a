-- Undoes 014.

BEGIN;
SET LOCAL ROLE iu_owner;

COMMIT;
