-- 011: where each route stands in each partition, who owns it, and when it stood still.

BEGIN;
SET LOCAL ROLE iu_owner;

-- ---------------------------------------------------------------------------------------
-- Positions.
-- Here and not in Kafka: they move in the transaction of the effect, so a crash cannot part
-- the two, and restoring the database rewinds the consumer with it.
-- ---------------------------------------------------------------------------------------

CREATE TABLE public.iu_route_offset (
  route_code     text NOT NULL,
  lane           text NOT NULL,
  topic          text NOT NULL,
  partition      integer NOT NULL,
  topic_id       text NOT NULL,
  start_offset   bigint NOT NULL,
  next_offset    bigint NOT NULL,
  owner_epoch    bigint NOT NULL DEFAULT 0,
  owner          text NOT NULL,
  last_event_ref uuid,
  repeats        bigint NOT NULL DEFAULT 0,
  claimed_at     timestamptz NOT NULL DEFAULT clock_timestamp(),
  recorded_at    timestamptz,
  CONSTRAINT iu_route_offset_pk PRIMARY KEY (route_code, lane, topic, partition),
  CONSTRAINT iu_route_offset_lane_chk CHECK (lane IN ('live', 'dry_run')),
  CONSTRAINT iu_route_offset_partition_chk CHECK (partition >= 0),
  CONSTRAINT iu_route_offset_position_chk CHECK (start_offset >= 0 AND next_offset >= start_offset),
  CONSTRAINT iu_route_offset_epoch_chk CHECK (owner_epoch >= 0)
);

COMMENT ON TABLE public.iu_route_offset IS
  'Position of a route''s lane in a partition, and who may move it. Authoritative; the offset in Kafka is for lag tools.';
COMMENT ON COLUMN public.iu_route_offset.route_code IS
  'The route; no reference: a route registered again goes on where it stood.';
COMMENT ON COLUMN public.iu_route_offset.lane IS 'live or dry_run: each has positions of its own.';
COMMENT ON COLUMN public.iu_route_offset.topic IS 'Name of the topic.';
COMMENT ON COLUMN public.iu_route_offset.partition IS 'Partition of the topic.';
COMMENT ON COLUMN public.iu_route_offset.topic_id IS
  'The broker''s id of the topic these offsets belong to; another one means it was made again.';
COMMENT ON COLUMN public.iu_route_offset.start_offset IS
  'Where the lane began: what lies before was never its to decide.';
COMMENT ON COLUMN public.iu_route_offset.next_offset IS 'The first offset not decided yet.';
COMMENT ON COLUMN public.iu_route_offset.owner_epoch IS
  'Counts claims; only the newest claimant may move the position.';
COMMENT ON COLUMN public.iu_route_offset.owner IS 'The newest claimant, as it named itself.';
COMMENT ON COLUMN public.iu_route_offset.last_event_ref IS
  'The last event decided; finds the place again if offsets are lost.';
COMMENT ON COLUMN public.iu_route_offset.repeats IS
  'How many events came again after their sent: counted, not written.';
COMMENT ON COLUMN public.iu_route_offset.claimed_at IS 'Clock of the newest claim.';
COMMENT ON COLUMN public.iu_route_offset.recorded_at IS 'Clock of the last move; NULL before the first.';

-- ---------------------------------------------------------------------------------------
-- Hold episodes.
-- One row per standstill and not one per event held: a switch closed over a weekend must
-- leave a line to read, not a million.
-- ---------------------------------------------------------------------------------------

CREATE TABLE public.iu_route_hold (
  episode_id uuid NOT NULL,
  route_code text NOT NULL,
  lane       text NOT NULL,
  gate       text NOT NULL,
  reason     text NOT NULL,
  owner      text NOT NULL,
  touches    bigint NOT NULL DEFAULT 1,
  opened_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
  touched_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  closed_at  timestamptz,
  closed_by  text,
  CONSTRAINT iu_route_hold_pk PRIMARY KEY (episode_id),
  CONSTRAINT iu_route_hold_lane_chk CHECK (lane IN ('live', 'dry_run')),
  CONSTRAINT iu_route_hold_closed_chk CHECK ((closed_at IS NULL) = (closed_by IS NULL)),
  CONSTRAINT iu_route_hold_closed_by_chk CHECK (closed_by IN ('progress', 'another_reason'))
);

CREATE UNIQUE INDEX iu_route_hold_open_uq ON public.iu_route_hold (route_code, lane) WHERE closed_at IS NULL;

COMMENT ON TABLE public.iu_route_hold IS
  'When a route stood still in a lane, and what was in the way. At most one open episode per (route, lane).';
COMMENT ON COLUMN public.iu_route_hold.episode_id IS 'Names the episode, UUIDv7.';
COMMENT ON COLUMN public.iu_route_hold.route_code IS 'The route that stands still.';
COMMENT ON COLUMN public.iu_route_hold.lane IS 'live or dry_run.';
COMMENT ON COLUMN public.iu_route_hold.gate IS
  'What holds it: kill_switch, allowlist, target, or another word of the consumer''s.';
COMMENT ON COLUMN public.iu_route_hold.reason IS
  'Why, in words that stay the same for as long as the cause does.';
COMMENT ON COLUMN public.iu_route_hold.owner IS 'The process that touched it last.';
COMMENT ON COLUMN public.iu_route_hold.touches IS
  'How often it was reported, all processes of the group together.';
COMMENT ON COLUMN public.iu_route_hold.opened_at IS 'Clock when it was first reported.';
COMMENT ON COLUMN public.iu_route_hold.touched_at IS
  'Clock when it was last reported: an old one means nobody is running.';
COMMENT ON COLUMN public.iu_route_hold.closed_at IS 'Clock when it ended; NULL while it lasts.';
COMMENT ON COLUMN public.iu_route_hold.closed_by IS
  'progress, or another_reason if a different episode took over.';
COMMENT ON INDEX public.iu_route_hold_open_uq IS 'At most one open episode per (route, lane).';

-- ---------------------------------------------------------------------------------------
-- Privileges: the reader looks; consumers write through the functions of 012 only.
-- ---------------------------------------------------------------------------------------

GRANT SELECT ON public.iu_route_offset, public.iu_route_hold TO iu_reader;

COMMIT;
