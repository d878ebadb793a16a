-- The ledger of applied migrations, made by the runner before the first of them.
-- Not a migration itself: it has to be there to write down that one was applied, and it stays
-- when the last one is rolled back.

SET LOCAL ROLE iu_owner;

CREATE TABLE IF NOT EXISTS public.iu_schema_migration (
  number            integer NOT NULL,
  name              text NOT NULL,
  checksum          text NOT NULL,
  rollback_checksum text NOT NULL,
  applied_by        text NOT NULL DEFAULT session_user,
  applied_at        timestamptz NOT NULL DEFAULT clock_timestamp(),
  CONSTRAINT iu_schema_migration_pk PRIMARY KEY (number),
  CONSTRAINT iu_schema_migration_number_chk CHECK (number >= 1),
  CONSTRAINT iu_schema_migration_checksum_chk CHECK (checksum ~ '^[0-9a-f]{64}$'),
  CONSTRAINT iu_schema_migration_rollback_chk CHECK (rollback_checksum ~ '^[0-9a-f]{64}$')
);

COMMENT ON TABLE public.iu_schema_migration IS
  'One row per applied migration, written in its own transaction. Kept by `iu db`.';
COMMENT ON COLUMN public.iu_schema_migration.number IS 'The NNN of its file.';
COMMENT ON COLUMN public.iu_schema_migration.name IS 'Name of the file in sql/migrations.';
COMMENT ON COLUMN public.iu_schema_migration.checksum IS 'SHA-256 of that file as it was applied, hex.';
COMMENT ON COLUMN public.iu_schema_migration.rollback_checksum IS 'SHA-256 of its rollback file at that time, hex.';
COMMENT ON COLUMN public.iu_schema_migration.applied_by IS 'The login that ran it.';
COMMENT ON COLUMN public.iu_schema_migration.applied_at IS 'When.';

GRANT SELECT ON public.iu_schema_migration TO iu_reader;
