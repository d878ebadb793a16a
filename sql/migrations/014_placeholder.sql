-- 014: a placeholder, so that the numbers have no hole; another branch brings the real one.

BEGIN;
SET LOCAL ROLE iu_owner;
COMMIT;
