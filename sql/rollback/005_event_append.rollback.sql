-- Undoes 005. Encoders before the primitives that they are made of.

BEGIN;
SET LOCAL ROLE iu_owner;

DROP FUNCTION public.fn_iu_outbox_append(text, uuid, uuid, bigint, integer, text, text, text, jsonb);
DROP FUNCTION public.fn_iu_avro_structure_piece_replaced_v1(jsonb);
DROP FUNCTION public.fn_iu_avro_structure_piece_replaced_v1_each_moved_child(jsonb, text);
DROP FUNCTION public.fn_iu_avro_structure_piece_replaced_v1_moved_child(jsonb, text);
DROP FUNCTION public.fn_iu_avro_structure_piece_replaced_v1_piece(jsonb, text);
DROP FUNCTION public.fn_iu_avro_structure_piece_replaced_v1_lifecycle(jsonb, text);
DROP FUNCTION public.fn_iu_avro_structure_piece_merged_v1(jsonb);
DROP FUNCTION public.fn_iu_avro_structure_piece_merged_v1_each_moved_child(jsonb, text);
DROP FUNCTION public.fn_iu_avro_structure_piece_merged_v1_moved_child(jsonb, text);
DROP FUNCTION public.fn_iu_avro_structure_piece_merged_v1_piece(jsonb, text);
DROP FUNCTION public.fn_iu_avro_structure_piece_merged_v1_lifecycle(jsonb, text);
DROP FUNCTION public.fn_iu_avro_structure_piece_merged_v1_each_uuid(jsonb, text);
DROP FUNCTION public.fn_iu_avro_structure_piece_split_v1(jsonb);
DROP FUNCTION public.fn_iu_avro_structure_piece_split_v1_each_moved_child(jsonb, text);
DROP FUNCTION public.fn_iu_avro_structure_piece_split_v1_moved_child(jsonb, text);
DROP FUNCTION public.fn_iu_avro_structure_piece_split_v1_each_piece(jsonb, text);
DROP FUNCTION public.fn_iu_avro_structure_piece_split_v1_piece(jsonb, text);
DROP FUNCTION public.fn_iu_avro_structure_piece_split_v1_lifecycle(jsonb, text);
DROP FUNCTION public.fn_iu_avro_structure_piece_deprecated_v1(jsonb);
DROP FUNCTION public.fn_iu_avro_structure_piece_deprecated_v1_lifecycle(jsonb, text);
DROP FUNCTION public.fn_iu_avro_structure_child_added_v1(jsonb);
DROP FUNCTION public.fn_iu_avro_structure_child_added_v1_each_uuid(jsonb, text);
DROP FUNCTION public.fn_iu_avro_structure_child_added_v1_lifecycle(jsonb, text);
DROP FUNCTION public.fn_iu_avro_structure_reparented_v1(jsonb);
DROP FUNCTION public.fn_iu_avro_timestamp_micros(jsonb, text);
DROP FUNCTION public.fn_iu_avro_fixed(jsonb, integer, text);
DROP FUNCTION public.fn_iu_avro_uuid(jsonb, text);
DROP FUNCTION public.fn_iu_avro_string(jsonb, text);
DROP FUNCTION public.fn_iu_avro_long(jsonb, text);
DROP FUNCTION public.fn_iu_avro_int(jsonb, text);
DROP FUNCTION public.fn_iu_avro_number(bigint);
DROP FUNCTION public.fn_iu_avro_refuse(text, text, jsonb);

COMMIT;
