-- Roles of IU Core, and what a database needs before its first migration.
--
-- Roles belong to the cluster, not to a database: they are made here, outside the migrations,
-- and no rollback drops them, because a second database of the cluster may stand on them.
-- Running this again changes nothing, and asks for no right it does not need: once an
-- administrator has run it, a login that is a member of iu_owner may migrate.

DO $$
DECLARE
  v_role text;
BEGIN
  FOREACH v_role IN ARRAY ARRAY[
    'iu_owner', 'iu_relay', 'iu_consumer', 'iu_editor', 'iu_gatekeeper', 'iu_reader'
  ] LOOP
    IF NOT EXISTS (SELECT FROM pg_catalog.pg_roles AS role WHERE role.rolname = v_role) THEN
      BEGIN
        EXECUTE format('CREATE ROLE %I NOLOGIN', v_role);
      EXCEPTION
        -- Another database of this cluster is being migrated at this moment.
        WHEN duplicate_object OR unique_violation THEN NULL;
      END;
    END IF;
  END LOOP;

  -- SET LOCAL ROLE iu_owner needs membership.  From 16 on, who creates a role administers it
  -- without being able to become it.
  IF NOT pg_has_role(CURRENT_USER, 'iu_owner', 'MEMBER') THEN
    GRANT iu_owner TO CURRENT_USER;
  ELSIF current_setting('server_version_num')::integer >= 160000 THEN
    IF NOT pg_has_role(CURRENT_USER, 'iu_owner', 'SET') THEN
      GRANT iu_owner TO CURRENT_USER;
    END IF;
  END IF;

  IF NOT has_schema_privilege('iu_owner', 'public', 'CREATE') THEN
    GRANT CREATE ON SCHEMA public TO iu_owner;
  END IF;

  -- Nothing of this project is usable without USAGE, and an administrator may have taken it
  -- from PUBLIC.
  FOREACH v_role IN ARRAY ARRAY[
    'iu_owner', 'iu_relay', 'iu_consumer', 'iu_editor', 'iu_gatekeeper', 'iu_reader'
  ] LOOP
    IF NOT has_schema_privilege(v_role, 'public', 'USAGE') THEN
      EXECUTE format('GRANT USAGE ON SCHEMA public TO %I', v_role);
    END IF;
  END LOOP;

  -- PostgreSQL lets PUBLIC execute every new function.  A definer function that somebody
  -- forgets to revoke would then be open to every login of the cluster.
  IF NOT EXISTS (
    SELECT FROM pg_catalog.pg_default_acl AS acl
     WHERE acl.defaclrole = 'iu_owner'::regrole
       AND acl.defaclnamespace = 0
       AND acl.defaclobjtype = 'f'
  ) THEN
    ALTER DEFAULT PRIVILEGES FOR ROLE iu_owner REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC;
  END IF;
END;
$$;
