-- runtime 020: registers one route per structure event, inert: disabled, and in dry-run.
-- Idempotent: a route that exists keeps its state, so running this never opens or closes one.
-- Requires: migration 009

BEGIN;
SET LOCAL ROLE iu_owner;

INSERT INTO public.iu_outbound_route (route_code, event_type, target_kind, target_ref, description)
VALUES
  ('structure_reparented', 'structure_reparented', 'sql_function', 'fn_iu_structure_consumer',
   'Units that moved within their tree, into iu_tree_change_log'),
  ('structure_child_added', 'structure_child_added', 'sql_function', 'fn_iu_structure_consumer',
   'Units and trees that were added, into iu_tree_change_log'),
  ('structure_piece_deprecated', 'structure_piece_deprecated', 'sql_function', 'fn_iu_structure_consumer',
   'Units that were deprecated, into iu_tree_change_log'),
  ('structure_piece_split', 'structure_piece_split', 'sql_function', 'fn_iu_structure_consumer',
   'Units that were split, into iu_tree_change_log'),
  ('structure_piece_merged', 'structure_piece_merged', 'sql_function', 'fn_iu_structure_consumer',
   'Units that were merged, into iu_tree_change_log'),
  ('structure_piece_replaced', 'structure_piece_replaced', 'sql_function', 'fn_iu_structure_consumer',
   'Units that were replaced, into iu_tree_change_log')
ON CONFLICT (route_code) DO NOTHING;

COMMIT;
