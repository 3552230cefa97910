-- What mail leaves by: sources, the pools they are in, and which pool serves a stream.

-- name: sources
SELECT id, name, v4, v6, ehlo FROM queue_source ORDER BY id;

-- name: add_source
-- Numbers are not given twice: what was noted of a source that is gone is no other's.
INSERT INTO queue_source (id, name, v4, v6, ehlo) VALUES (?1, ?2, ?3, ?4, ?5);

-- name: next_source
UPDATE queue_source_number SET last = last + 1 RETURNING last;

-- name: lock
-- Who changes anything here decides by what stands here: one after the other.
UPDATE queue_source_number SET last = last;

-- name: change_source
UPDATE queue_source SET v4 = ?2, v6 = ?3, ehlo = ?4 WHERE id = ?1;

-- name: remove_source
DELETE FROM queue_source WHERE id = ?1;

-- name: pools
SELECT name, organisation FROM queue_pool ORDER BY name;

-- name: add_pool
INSERT INTO queue_pool (name) VALUES (?1);

-- name: give_pool
UPDATE queue_pool SET organisation = ?2 WHERE name = ?1;

-- name: remove_pool
DELETE FROM queue_pool WHERE name = ?1;

-- name: members
SELECT pool, source, weight FROM queue_pool_source ORDER BY pool, source;

-- name: add_member
INSERT INTO queue_pool_source (pool, source, weight) VALUES (?1, ?2, ?3);

-- name: remove_members
DELETE FROM queue_pool_source WHERE pool = ?1;

-- name: served
SELECT stream, pool FROM queue_pool_stream ORDER BY stream;

-- name: serve
INSERT INTO queue_pool_stream (stream, pool) VALUES (?1, ?2);

-- name: serve_no_more
DELETE FROM queue_pool_stream WHERE pool = ?1;

-- name: rules
SELECT source, site, organisation, name, value FROM queue_rule ORDER BY source, site, organisation, name;

-- name: set_rule
INSERT INTO queue_rule (source, site, organisation, name, value) VALUES (?1, ?2, ?3, ?4, ?5)
ON CONFLICT (source, site, organisation, name) DO UPDATE SET value = excluded.value;

-- name: unset_rule
DELETE FROM queue_rule WHERE source = ?1 AND site = ?2 AND organisation = ?3 AND name = ?4;

-- name: forget_rules
DELETE FROM queue_rule WHERE source = ?1;

-- name: forget_bounds
DELETE FROM queue_rule WHERE organisation = ?1;

-- name: stops
SELECT kind, name, drains, since FROM queue_stop ORDER BY kind, name;

-- name: stop
INSERT INTO queue_stop (kind, name, drains, since) VALUES (?1, ?2, ?3, ?4)
ON CONFLICT (kind, name) DO UPDATE SET drains = excluded.drains;

-- name: resume
DELETE FROM queue_stop WHERE kind = ?1 AND name = ?2 RETURNING since;

-- name: stopped
SELECT kind, name, since, ended FROM queue_stopped ORDER BY kind, name, ended;

-- name: note_stopped
INSERT INTO queue_stopped (kind, name, since, ended) VALUES (?1, ?2, ?3, ?4) ON CONFLICT DO NOTHING;

-- name: forget_stopped
-- As long as it lasted has passed again.
DELETE FROM queue_stopped WHERE ended + ended - since <= ?1;

-- name: quiet
SELECT stream, organisation, begins, ends, zone FROM queue_quiet ORDER BY stream, organisation;

-- name: set_quiet
INSERT INTO queue_quiet (stream, organisation, begins, ends, zone) VALUES (?1, ?2, ?3, ?4, ?5)
ON CONFLICT (stream, organisation) DO UPDATE SET begins = excluded.begins, ends = excluded.ends, zone = excluded.zone;

-- name: unset_quiet
DELETE FROM queue_quiet WHERE stream = ?1 AND organisation = ?2;

-- name: forget_quiet
DELETE FROM queue_quiet WHERE organisation = ?1;

-- name: verp
SELECT stream FROM queue_verp ORDER BY stream;

-- name: set_verp
INSERT INTO queue_verp (stream) VALUES (?1) ON CONFLICT DO NOTHING;

-- name: unset_verp
DELETE FROM queue_verp WHERE stream = ?1;

-- name: caps
SELECT source, share, days, began FROM queue_cap ORDER BY source, share;

-- name: any_cap
SELECT 1 FROM queue_cap LIMIT 1;

-- name: set_cap
INSERT INTO queue_cap (source, share, days, began) VALUES (?1, ?2, ?3, ?4)
ON CONFLICT (source, share) DO UPDATE SET days = excluded.days;

-- name: end_plan
DELETE FROM queue_cap WHERE source = ?1;

-- name: delivered
SELECT site, day, sent FROM queue_delivered WHERE source = ?1 ORDER BY site, day;

-- name: count
-- What comes after the plan's end, of what was under way then, is nobody's.
INSERT INTO queue_delivered (source, site, day, sent, tried, ended, bounced, complained, blocked, deferred)
SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10 WHERE EXISTS (SELECT 1 FROM queue_cap WHERE source = ?1)
ON CONFLICT (source, site, day) DO UPDATE SET sent = queue_delivered.sent + excluded.sent,
    tried = queue_delivered.tried + excluded.tried, ended = queue_delivered.ended + excluded.ended,
    bounced = queue_delivered.bounced + excluded.bounced, complained = queue_delivered.complained + excluded.complained,
    blocked = queue_delivered.blocked + excluded.blocked, deferred = queue_delivered.deferred + excluded.deferred;

-- name: days
SELECT day FROM queue_delivered WHERE source = ?1 AND site = '';

-- name: forget_days
DELETE FROM queue_delivered WHERE source = ?1 AND site = '' AND day <= ?2;

-- name: begin_anew
UPDATE queue_cap SET began = ?2 WHERE source = ?1;

-- name: last_used
-- By what it delivered, and by what was judged of it.
SELECT max(day) FROM (SELECT day FROM queue_delivered WHERE source = ?1
    UNION ALL SELECT day FROM queue_judged_to WHERE source = ?1) AS used;

-- name: any_unjudged
SELECT 1 FROM queue_delivered WHERE source = ?1 AND site <> '' AND day < ?2 LIMIT 1;

-- name: take_unjudged
-- What is written meanwhile is not lost unread.
DELETE FROM queue_delivered WHERE source = ?1 AND site <> '' AND day < ?2
RETURNING site, day, sent, tried, ended, bounced, complained, blocked, deferred;

-- name: judged_to
SELECT day FROM queue_judged_to WHERE source = ?1;

-- name: set_judged_to
INSERT INTO queue_judged_to (source, day) VALUES (?1, ?2) ON CONFLICT (source) DO UPDATE SET day = excluded.day;

-- name: forget_judged_to
DELETE FROM queue_judged_to WHERE source = ?1;

-- name: judged
SELECT source, site, day, course, measure, count, among, days, behind, stopped FROM queue_judged ORDER BY source, site;

-- name: set_judged
INSERT INTO queue_judged (source, site, day, course, measure, count, among, days, behind, stopped)
VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)
ON CONFLICT (source, site) DO UPDATE SET day = excluded.day, course = excluded.course, measure = excluded.measure,
    count = excluded.count, among = excluded.among, days = excluded.days, behind = excluded.behind, stopped = excluded.stopped;

-- name: forget_judged
DELETE FROM queue_judged WHERE source = ?1 AND site = ?2;

-- name: forget_all_judged
DELETE FROM queue_judged WHERE source = ?1;

-- name: forget_delivered
DELETE FROM queue_delivered WHERE source = ?1;

-- name: used
SELECT source, site, organisation, what, until, name FROM queue_used WHERE node IN (0, ?1) AND until > ?2 ORDER BY until DESC LIMIT ?3;

-- name: pauses
-- Nothing else has a name.
SELECT source, site, organisation, what, until, name FROM queue_used WHERE name <> '' AND until > ?1 ORDER BY until DESC LIMIT ?2;

-- name: end_pause
-- Of all nodes.
DELETE FROM queue_used WHERE source = ?1 AND site = ?2 AND what = ?3 AND name <> '';

-- name: note_used
INSERT INTO queue_used (source, node, site, organisation, what, until, name) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)
ON CONFLICT (source, node, site, organisation, what) DO UPDATE SET until = excluded.until, name = excluded.name;

-- name: forget_used
DELETE FROM queue_used WHERE until <= ?1;
