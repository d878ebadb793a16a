-- Undoes 014: nothing.

BEGIN;
SET LOCAL ROLE iu_owner;
COMMIT;
