-- The statements of the queue, for both engines. A message row stands as long as one of its deliveries has something
-- before it: an attempt, or a report that is owed. States: 0 waiting, 1 claimed, 2 delivered, 3 failed, 4 cancelled,
-- 5 held (the row cannot be read), 6 claimed and to be cancelled.

-- name: next_epoch
-- One life of one node; none is given twice.
UPDATE queue_epoch_number SET last = last + 1 RETURNING last;

-- name: begin_epoch
INSERT INTO queue_epoch (epoch, node, name, began, until, heir) VALUES (?1, ?2, ?3, ?4, ?5, 0);

-- name: epochs_before
-- What is over when this life begins: a node's own, and those of servers that were alone, which share with nobody. Who is alone
-- ends all.
SELECT epoch FROM queue_epoch WHERE epoch < ?2 AND (node = ?1 OR until = 9223372036854775807 OR CAST(?3 AS BIGINT) = 1)
ORDER BY epoch;

-- name: end_epoch
DELETE FROM queue_epoch WHERE epoch = ?1;

-- name: lives
SELECT epoch, node, name, began, until FROM queue_epoch ORDER BY epoch;

-- name: renew
UPDATE queue_epoch SET until = ?2 WHERE epoch = ?1 AND heir = 0;

-- name: stands
-- Changes nothing, but waits for who is taking over just now.
UPDATE queue_epoch SET node = node WHERE epoch = ?1 AND heir = 0;

-- name: inherit
-- It is over: it says and claims nothing any more, and who gives back what it had claimed is this one.
UPDATE queue_epoch SET heir = ?2 WHERE epoch = ?1;

-- name: inherit_lapsed
-- One that is silent for longer than its lease, unless it has an heir that lives.
UPDATE queue_epoch SET heir = ?2 WHERE epoch = ?1 AND until < ?3
    AND (heir = 0 OR heir = ?2 OR heir NOT IN (SELECT epoch FROM queue_epoch WHERE until >= ?3));

-- name: inherits
-- Changes nothing, but keeps it so until the commit.
UPDATE queue_epoch SET heir = heir WHERE epoch = ?1 AND heir = ?2;

-- name: hold_source
INSERT INTO queue_source_held (source, epoch) VALUES (?2, ?1)
ON CONFLICT (source) DO UPDATE SET epoch = excluded.epoch
WHERE queue_source_held.epoch NOT IN (SELECT epoch FROM queue_epoch);

-- name: held_sources
SELECT source FROM queue_source_held WHERE epoch = ?1 ORDER BY source;

-- name: let_source_go
DELETE FROM queue_source_held WHERE epoch = ?1 AND source = ?2;

-- name: let_sources_go
DELETE FROM queue_source_held WHERE epoch = ?1;

-- name: next_told
-- The row is locked until the commit: the order of numbers is that of commits.
UPDATE queue_told_number SET last = last + 1 RETURNING last;

-- name: last_told
SELECT last FROM queue_told_number;

-- name: tell
INSERT INTO queue_told (n, process, kind, id, address) VALUES (?1, ?2, ?3, ?4, ?5);

-- name: told
SELECT n, process, kind, id, address FROM queue_told WHERE n > ?1 ORDER BY n LIMIT ?2;

-- name: forget_told
DELETE FROM queue_told WHERE n = ?1;

-- name: last_message
SELECT max(id) FROM queue_message WHERE id >= ?1 AND id < ?2;

-- name: message_after
-- The last of the next few.
SELECT max(id) FROM (SELECT id FROM queue_message WHERE id > ?1 AND id < ?2 ORDER BY id LIMIT ?3) AS next;

-- name: groups_between
SELECT DISTINCT stream, organisation, domain, priority FROM queue_delivery
WHERE message > ?1 AND message <= ?2 AND state = 0 ORDER BY stream, organisation, domain, priority;

-- name: claims_of
-- Some of what a life had claimed.
SELECT message, number, state FROM queue_delivery WHERE epoch = ?1 AND epoch <> 0 AND state IN (1, 6) LIMIT ?2;

-- name: recover
-- It goes back to the queue; with 1 it was perhaps sent: whether the next hop has it, nobody knows.
UPDATE queue_delivery SET state = 0, epoch = 0, attempts = attempts + ?5, uncertain = uncertain + ?5,
    due = CASE WHEN ?4 < expires THEN ?4 ELSE expires END
WHERE message = ?1 AND number = ?2 AND epoch = ?3 AND state = 1;

-- name: point
-- Its last record is there.
UPDATE queue_delivery SET segment = ?3, place = ?4 WHERE message = ?1 AND number = ?2;

-- name: recover_cancelled
UPDATE queue_delivery SET state = 4, epoch = 0 WHERE message = ?1 AND number = ?2 AND epoch = ?3 AND state = 6;

-- name: owing
SELECT DISTINCT message FROM queue_delivery WHERE owed <> 0 ORDER BY message;

-- name: insert_message
INSERT INTO queue_message (id, blob, prefix, octets, sender, envelope_id, ret, flags, account, organisation, stream, created,
    total, open, priority, release, deliver_by, message_id, kind, reference)
VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20);

-- name: insert_delivery
INSERT INTO queue_delivery (message, number, recipient, notify, original, state, epoch, due, expires, attempts, uncertain,
    warned, owed, status, reply, host, class, segment, place, stream, organisation, domain, priority)
VALUES (?1, ?2, ?3, ?4, ?5, ?6, 0, ?7, ?8, 0, 0, 0, ?9, ?10, ?11, ?12, '', 0, 0, ?13, ?14, ?15, ?16);

-- name: due
-- By the index of what waits in a group; together with its message, so that a claim costs one read and a write for each.
-- What another node is just claiming is not waited for.
SELECT d.number, d.recipient, d.notify, d.original, d.expires, d.attempts, d.warned, d.uncertain, d.segment, d.place,
    m.id, m.blob, m.prefix, m.octets, m.sender, m.envelope_id, m.ret, m.flags, m.account, m.created, m.total, m.stream,
    m.organisation, m.priority, m.release, m.deliver_by, m.message_id, m.kind, m.reference
FROM queue_delivery d JOIN queue_message m ON m.id = d.message
WHERE d.state = 0 AND d.stream = ?1 AND d.organisation = ?2 AND d.domain = ?3 AND d.priority = ?4 AND d.due <= ?5
ORDER BY d.due LIMIT ?6 /*postgres FOR UPDATE OF d SKIP LOCKED */;

-- name: is_suppressed
SELECT CAST(1 AS BIGINT) FROM queue_suppression
WHERE organisation = ?1 AND address = ?2 AND stream IN (-1, ?3) AND (expires IS NULL OR expires > ?4) LIMIT 1;

-- name: claim
-- Changes nothing when another was faster.
UPDATE queue_delivery SET state = 1, epoch = ?3 WHERE message = ?1 AND number = ?2 AND state = 0;

-- name: hold
UPDATE queue_delivery SET state = 5, reply = ?3, host = ?4 WHERE message = ?1 AND number = ?2 AND state = 0;

-- name: next_due
SELECT min(due) FROM queue_delivery WHERE state = 0 AND stream = ?1 AND organisation = ?2 AND domain = ?3 AND priority = ?4;

-- name: scheduled
-- The groups of the next few that wait, and how many each has of them: with the first of a group is known when it is due, however many
-- are behind it. The last column is what makes SQLite seek, too.
SELECT stream, organisation, domain, priority, min(due), count(*) FROM
    (SELECT stream, organisation, domain, priority, due FROM queue_delivery
    WHERE state = 0 AND (stream, organisation, domain, priority, due) > (?1, ?2, ?3, ?4, 9223372036854775807)
    ORDER BY stream, organisation, domain, priority, due LIMIT ?5) AS next
GROUP BY stream, organisation, domain, priority ORDER BY stream, organisation, domain, priority;

-- name: later
-- Whose turn of a group is behind that place, by the index of what waits, and whether its sender wants it to leave later. The limit is
-- within: however many of those there are, no more are read.
SELECT d.message, d.number, d.recipient, d.due, CASE WHEN m.release > ?8 THEN 1 ELSE 0 END FROM
    (SELECT message, number, recipient, due FROM queue_delivery
    WHERE state = 0 AND stream = ?1 AND organisation = ?2 AND domain = ?3 AND priority = ?4 AND (due, message, number) > (?5, ?6, ?7)
    ORDER BY due, message, number LIMIT ?9) AS d
JOIN queue_message m ON m.id = d.message ORDER BY d.due, d.message, d.number;

-- name: bring_forward
UPDATE queue_delivery SET due = CASE WHEN ?3 < expires THEN ?3 ELSE expires END
WHERE message = ?1 AND number = ?2 AND state = 0 AND due > ?3;

-- name: groups_of_message
SELECT DISTINCT stream, organisation, domain, priority FROM queue_delivery WHERE message = ?1 AND number >= ?2 AND number < ?3
ORDER BY stream, organisation, domain, priority;

-- name: waiting
-- How many wait, counted no further than that. The order makes it the index of what waits, however large the table is.
SELECT count(*) FROM (SELECT due FROM queue_delivery WHERE state = 0 ORDER BY stream, organisation, domain, priority, due LIMIT ?1) AS waiting;

-- name: has_mail
-- By the indexes of what waits, is claimed or owes a report.
SELECT 1 FROM queue_delivery WHERE state = 0 AND stream IN (0, 1, 2) AND organisation = ?1
UNION ALL
SELECT 1 FROM queue_delivery WHERE epoch <> 0 AND organisation = ?1
UNION ALL
SELECT 1 FROM queue_delivery WHERE owed <> 0 AND organisation = ?1
LIMIT 1;

-- name: remove_claimed
-- A delivery that leaves nothing behind; only its claimer may end it.
DELETE FROM queue_delivery WHERE message = ?1 AND number = ?2 AND state IN (1, 6) AND epoch = ?3;

-- name: settle
-- Any other outcome of an attempt; only its claimer may write it. What it owed stays owed while it waits; with the end
-- the warning that was not sent yet has become pointless. What was cancelled meanwhile, and did not arrive, is.
UPDATE queue_delivery SET
    state = CASE WHEN state = 6 AND CAST(?4 AS BIGINT) <> 2 THEN 4 ELSE CAST(?4 AS BIGINT) END,
    owed = CASE WHEN state = 6 AND CAST(?4 AS BIGINT) <> 2 THEN 0 WHEN CAST(?4 AS BIGINT) = 0 THEN owed + ?7 ELSE ?7 END,
    epoch = 0, due = ?5, attempts = attempts + 1, warned = ?6, status = ?8, reply = ?9, host = ?10, class = ?11,
    segment = ?12, place = ?13
WHERE message = ?1 AND number = ?2 AND state IN (1, 6) AND epoch = ?3 RETURNING state;

-- name: release
-- The claim is given back without an attempt.
UPDATE queue_delivery SET state = CASE WHEN state = 6 THEN 4 ELSE 0 END, epoch = 0,
    due = CASE WHEN ?4 < expires THEN ?4 ELSE expires END
WHERE message = ?1 AND number = ?2 AND state IN (1, 6) AND epoch = ?3 RETURNING state;

-- name: prolong
-- It lives longer than was thought, and is the claimer's.
UPDATE queue_delivery SET expires = ?4
WHERE message = ?1 AND number = ?2 AND state IN (1, 6) AND epoch = ?3 AND expires < ?4;

-- name: touch
-- Changes nothing, but waits for who is changing the row just now.
UPDATE queue_delivery SET epoch = epoch WHERE message = ?1 AND number = ?2;

-- name: is_claimed
UPDATE queue_delivery SET epoch = epoch WHERE message = ?1 AND number = ?2 AND state IN (1, 6) AND epoch = ?3;

-- name: close
-- So many deliveries fewer are open; answers how many still are.
UPDATE queue_message SET open = open - ?2 WHERE id = ?1 RETURNING open;

-- name: remove_message
DELETE FROM queue_message WHERE id = ?1;

-- name: remove_deliveries
DELETE FROM queue_delivery WHERE message = ?1;

-- name: reported
UPDATE queue_delivery SET owed = 0 WHERE message = ?1 AND number = ?2 AND owed = ?3;

-- name: message
SELECT id, blob, prefix, octets, sender, envelope_id, ret, flags, account, created, total, stream, organisation,
    priority, release, deliver_by, message_id, kind, reference
FROM queue_message WHERE id = ?1;

-- name: deliveries_between
SELECT number, recipient, notify, original, expires, attempts, warned, uncertain, segment, place
FROM queue_delivery WHERE message = ?1 AND number BETWEEN ?2 AND ?3 ORDER BY number;

-- name: deliveries
SELECT number, recipient, notify, original, expires, attempts, warned, uncertain, segment, place, state, due, owed, status,
    reply, host, class
FROM queue_delivery WHERE message = ?1 AND number > ?2 ORDER BY number LIMIT ?3;

-- name: accepted
-- What was to be sent when it came, as long as the message stands: without what was only to be reported.
SELECT d.number, d.recipient, m.sender, m.message_id, m.created, m.stream, m.organisation
FROM queue_delivery d JOIN queue_message m ON m.id = d.message
WHERE d.message = ?1 AND NOT (d.attempts = 0 AND d.state IN (2, 3)) ORDER BY d.number;

-- name: page
SELECT id FROM queue_message WHERE id > ?1 ORDER BY id LIMIT ?2;

-- name: delivery_behind
-- The last of the next few, the oldest first.
SELECT message, number FROM queue_delivery WHERE (message, number) > (?1, ?2) ORDER BY message, number LIMIT 1 OFFSET ?3;

-- name: sought
SELECT d.message, d.number, d.recipient, m.sender FROM queue_delivery d JOIN queue_message m ON m.id = d.message
WHERE (d.message, d.number) > (?1, ?2) AND (d.message, d.number) <= (?3, ?4)
    AND (CAST(?5 AS BIGINT) IS NULL OR d.domain = ?5) AND (CAST(?6 AS BIGINT) IS NULL OR d.stream = ?6)
    AND (CAST(?7 AS BIGINT) IS NULL OR d.organisation = ?7) AND (CAST(?8 AS BIGINT) IS NULL OR d.state = ?8)
ORDER BY d.message, d.number;

-- name: delivery_before
-- The last of the next few, the youngest first.
SELECT message, number FROM queue_delivery WHERE (message, number) < (?1, ?2) ORDER BY message DESC, number DESC
LIMIT 1 OFFSET ?3;

-- name: recipients_between
-- Those of that domain; with 1, when each was accepted. Which address is like another, SQL does not say: the engines fold letters
-- differently.
SELECT d.message, d.number, d.recipient,
    CASE WHEN CAST(?6 AS BIGINT) = 1 THEN (SELECT m.created FROM queue_message m WHERE m.id = d.message) END
FROM queue_delivery d
WHERE (d.message, d.number) >= (?1, ?2) AND (d.message, d.number) < (?3, ?4) AND d.domain = ?5
ORDER BY d.message DESC, d.number DESC;

-- name: retry
UPDATE queue_delivery SET state = 0, due = CASE WHEN ?2 < expires THEN ?2 ELSE expires END
WHERE message = ?1 AND number >= ?3 AND number < ?4 AND state IN (0, 5);

-- name: cancel
UPDATE queue_delivery SET state = 4, owed = 0
WHERE message = ?1 AND number >= ?2 AND number < ?3 AND state IN (0, 5) RETURNING number;

-- name: cancel_claimed
-- It may be in the middle of an attempt: what comes of that decides.
UPDATE queue_delivery SET state = 6, owed = 0 WHERE message = ?1 AND number >= ?2 AND number < ?3 AND state IN (1, 6);

-- name: cancel_reports
UPDATE queue_delivery SET owed = 0 WHERE message = ?1 AND number >= ?2 AND number < ?3 AND owed <> 0;

-- name: total
SELECT total FROM queue_message WHERE id = ?1;

-- name: exists
SELECT 1 FROM queue_message WHERE id = ?1;

-- name: blobs_between
-- Whether a pack is still in use: its blobs are the numbers of a range.
SELECT 1 FROM queue_message WHERE blob >= ?1 AND blob < ?2 LIMIT 1;

-- name: blobs_of_pack
-- What lives in a pack: a mail may be in the queue and in mailboxes too.
SELECT blob, max(octets) FROM queue_message WHERE blob >= ?1 AND blob < ?2 GROUP BY blob ORDER BY blob LIMIT ?3;

-- name: repoint
-- The blob was copied. On PostgreSQL a row may go while this waits for it.
UPDATE queue_message SET blob = ?2
WHERE blob = ?1 AND id IN (SELECT id FROM queue_message WHERE blob = ?1 ORDER BY id LIMIT ?3);

-- name: message_blob
SELECT blob FROM queue_message WHERE id = ?1;

-- name: verify_messages
SELECT id, blob, CAST(length(prefix) AS BIGINT), octets, total, open,
    (SELECT count(*) FROM queue_delivery d WHERE d.message = m.id),
    (SELECT count(*) FROM queue_delivery d WHERE d.message = m.id AND (d.state IN (0, 1, 5, 6) OR d.owed <> 0)),
    CAST(length(reference) AS BIGINT)
FROM queue_message m ORDER BY id;

-- name: verify_senders
SELECT id, sender FROM queue_message WHERE sender IS NOT NULL ORDER BY id;

-- name: verify_recipients
SELECT message, recipient FROM queue_delivery ORDER BY message, number;

-- name: verify_strays
SELECT DISTINCT message FROM queue_delivery d
WHERE NOT EXISTS (SELECT 1 FROM queue_message m WHERE m.id = d.message) ORDER BY message;

-- name: verify_deliveries
SELECT message, number FROM queue_delivery d
WHERE state < 0 OR state > 6 OR due > expires
    OR (state IN (1, 6)) <> (epoch <> 0)
    OR stream <> (SELECT m.stream FROM queue_message m WHERE m.id = d.message)
    OR organisation <> (SELECT m.organisation FROM queue_message m WHERE m.id = d.message)
    OR (state IN (1, 6) AND NOT EXISTS (SELECT 1 FROM queue_epoch e WHERE e.epoch = d.epoch))
ORDER BY message, number;

-- name: verify_merged
SELECT s.id, s.merged, s.parts, CAST(length(s.recipients) AS BIGINT), CAST(length(s.message_ids) AS BIGINT), s.heads, d.records
FROM queue_segment s LEFT JOIN queue_dialogue d ON d.segment = s.id
WHERE s.parts IS NOT NULL OR s.merged <> 0 ORDER BY s.id;

-- name: insert_receipt
-- One odd row never keeps the outcomes of others from being written. A report that it failed may have come before it was written
-- that it was delivered.
INSERT INTO queue_receipt (message, number, ended, class, stream, account, at, attempts, uncertain, segment, place)
VALUES (?1, ?2,
    CASE WHEN CAST(?3 AS BIGINT) = 0 AND EXISTS
        (SELECT 1 FROM queue_event e WHERE e.message = ?1 AND e.number = ?2 AND e.kind = 0) THEN 1 ELSE CAST(?3 AS BIGINT) END,
    COALESCE((SELECT e.class FROM queue_event e
        WHERE CAST(?3 AS BIGINT) = 0 AND e.message = ?1 AND e.number = ?2 AND e.kind = 0 ORDER BY e.n LIMIT 1), ?4), ?5, ?6, ?7, ?8, ?9, ?10, ?11) ON CONFLICT (message, number) DO UPDATE SET
    ended = excluded.ended, class = excluded.class, at = excluded.at, attempts = excluded.attempts,
    uncertain = excluded.uncertain, segment = excluded.segment, place = excluded.place;

-- name: insert_segment
-- When nobody knows whether a commit was made, it is made once more.
INSERT INTO queue_segment (id, at, merged, parts, recipients, message_ids, heads) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)
ON CONFLICT DO NOTHING;

-- name: insert_dialogue
INSERT INTO queue_dialogue (segment, at, records) VALUES (?1, ?2, ?3) ON CONFLICT DO NOTHING;

-- name: least_segment
-- Numbers below zero are for what ends without an attempt. None is given twice.
UPDATE queue_segment_number SET last = last - 1 RETURNING last;

-- name: receipt
SELECT message, number, ended, class, stream, account, at, attempts, uncertain, segment, place
FROM queue_receipt WHERE message = ?1 AND number = ?2;

-- name: open
-- Of a delivery to which something may still happen: its end waits for the commit.
SELECT attempts, uncertain FROM queue_delivery WHERE message = ?1 AND number = ?2 AND state IN (0, 1, 5, 6) /*postgres FOR UPDATE */;

-- name: any_open
SELECT 1 FROM queue_delivery WHERE message = ?1 AND state IN (0, 1, 5, 6) LIMIT 1;

-- name: receipts_of_message
SELECT message, number, ended, class, stream, account, at, attempts, uncertain, segment, place
FROM queue_receipt WHERE message = ?1 AND number > ?2 ORDER BY number LIMIT ?3;

-- name: receipts_before
SELECT message, number, ended, class, stream, account, at, attempts, uncertain, segment, place
FROM queue_receipt WHERE (message, number) < (?1, ?2) ORDER BY message DESC, number DESC LIMIT ?3;

-- name: revise_receipt
UPDATE queue_receipt SET ended = ?3, class = ?4 WHERE message = ?1 AND number = ?2;

-- name: heads
SELECT id, parts, heads FROM queue_segment WHERE id = ?1;

-- name: merged_heads
-- The only one that may have taken the place of this segment: none overlaps another.
SELECT id, parts, heads FROM queue_segment WHERE merged >= ?1 ORDER BY merged, id LIMIT 1;

-- name: dialogues
SELECT d.segment, s.parts, d.records FROM queue_dialogue d LEFT JOIN queue_segment s ON s.id = d.segment WHERE d.segment = ?1;

-- name: merged_dialogues
-- Of the same one, if they are still kept.
SELECT s.id, s.parts, d.records FROM queue_segment s LEFT JOIN queue_dialogue d ON d.segment = s.id WHERE s.merged >= ?1
ORDER BY s.merged, s.id LIMIT 1;

-- name: small_segments
-- By the index of those that may be merged.
SELECT id, at, CAST(length(recipients) AS BIGINT) FROM queue_segment WHERE merged = 0 AND id > ?1 ORDER BY id LIMIT ?2;

-- name: merged_behind
SELECT id FROM queue_segment WHERE merged >= ?1 ORDER BY merged, id LIMIT 1;

-- name: not_small_between
-- Reads the small ones, up to the first that is not.
SELECT id FROM queue_segment WHERE id > ?1 AND id < ?2 AND (merged IS NULL OR merged <> 0) ORDER BY id LIMIT 1;

-- name: small_records
SELECT s.id, s.at, s.recipients, s.message_ids, s.heads, d.records FROM queue_segment s JOIN queue_dialogue d ON d.segment = s.id
WHERE s.merged = 0 AND s.id BETWEEN ?1 AND ?2 ORDER BY s.id;

-- name: remove_small_dialogues
-- Before their segments: the same ones.
DELETE FROM queue_dialogue WHERE segment IN (SELECT id FROM queue_segment WHERE merged = 0 AND id BETWEEN ?1 AND ?2);

-- name: remove_small_segments
DELETE FROM queue_segment WHERE merged = 0 AND id BETWEEN ?1 AND ?2;

-- name: leave_small
-- They are not looked at again.
UPDATE queue_segment SET merged = NULL WHERE merged = 0 AND id BETWEEN ?1 AND ?2;

-- name: traces_of_recipients
SELECT id, parts, recipients FROM queue_segment WHERE id < ?1 ORDER BY id DESC LIMIT ?2;

-- name: traces_of_message_ids
SELECT id, parts, message_ids FROM queue_segment WHERE id < ?1 ORDER BY id DESC LIMIT ?2;

-- name: traces_lately
-- A page, from behind a time and a segment on.
SELECT id, parts, message_ids, at FROM queue_segment WHERE at <= ?1 AND (at < ?1 OR id < ?2) ORDER BY at DESC, id DESC LIMIT ?3;

-- name: traces_behind
-- What was written since: positions are in the order of commits, and none is missing. It may stand in a merged segment by now.
SELECT s.id, s.parts, s.message_ids, l.position, l.segment FROM queue_log l JOIN queue_segment s ON s.id = COALESCE(
    (SELECT o.id FROM queue_segment o WHERE o.id = l.segment),
    (SELECT m.id FROM queue_segment m WHERE m.merged >= l.segment AND l.segment > 0 ORDER BY m.merged, m.id LIMIT 1))
WHERE l.position > ?1 AND l.segment <> 0
ORDER BY l.position LIMIT ?2;

-- name: in_hand_with
-- By the index of what is claimed, of which so many are looked at.
SELECT d.message, d.number FROM (SELECT message, number FROM queue_delivery WHERE epoch <> 0 LIMIT ?2) d
JOIN queue_message m ON m.id = d.message WHERE m.message_id = ?1 ORDER BY d.message, d.number LIMIT 100;

-- name: other_of_message
SELECT 1 FROM queue_receipt WHERE message = ?1 AND number <> ?2
UNION ALL SELECT 1 FROM queue_delivery WHERE message = ?1 AND number <> ?2 LIMIT 1;

-- name: insert_event
INSERT INTO queue_event (message, number, n, at, kind, class, detail) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7);

-- name: count_events
SELECT count(*) FROM queue_event WHERE message = ?1 AND number = ?2;

-- name: events
SELECT at, kind, class, detail FROM queue_event WHERE message = ?1 AND number = ?2 ORDER BY n;

-- name: event
SELECT at, kind, class, detail FROM queue_event WHERE message = ?1 AND number = ?2 AND n = ?3;

-- name: next_position
-- The row is locked until the commit: so the order of positions is the order of commits, and none is missing.
UPDATE queue_log_number SET last = last + 1;

-- name: last_position
SELECT last FROM queue_log_number;

-- name: append
-- At the position that was just given out.
INSERT INTO queue_log (position, at, segment, message, number, n, marks)
VALUES ((SELECT last FROM queue_log_number), ?1, ?2, ?3, ?4, ?5, ?6);

-- name: log
SELECT position, at, segment, message, number, n, marks FROM queue_log WHERE position >= ?1 ORDER BY position LIMIT ?2;

-- name: forget_log
-- From the oldest on.
DELETE FROM queue_log WHERE at < ?1 AND position IN (SELECT position FROM queue_log ORDER BY position LIMIT ?2);

-- name: hold_reader
-- One at a time reads in this name: who holds it, unless his life is over.
INSERT INTO queue_reader (name, holder, position) SELECT ?1, ?2, last FROM queue_log_number WHERE 1 = 1
ON CONFLICT (name) DO UPDATE SET holder = excluded.holder
WHERE queue_reader.holder = excluded.holder OR queue_reader.holder NOT IN (SELECT epoch FROM queue_epoch)
RETURNING position;

-- name: note_reader
UPDATE queue_reader SET position = ?3 WHERE name = ?1 AND holder = ?2;

-- name: forget_dialogues
DELETE FROM queue_dialogue WHERE segment IN (SELECT segment FROM queue_dialogue WHERE at < ?1 ORDER BY at LIMIT ?2);

-- name: forget_events
-- Before their receipts: the same ones.
DELETE FROM queue_event WHERE (message, number) IN
    (SELECT message, number FROM queue_receipt WHERE at < ?1 ORDER BY at LIMIT ?2);

-- name: forget_receipts
DELETE FROM queue_receipt WHERE (message, number) IN
    (SELECT message, number FROM queue_receipt WHERE at < ?1 ORDER BY at LIMIT ?2);

-- name: forget_segments
DELETE FROM queue_segment WHERE id IN (SELECT id FROM queue_segment WHERE at < ?1 ORDER BY at LIMIT ?2);

-- name: suppress
-- Stream -1 is all of them.
INSERT INTO queue_suppression (organisation, address, stream, reason, note, message, number, since, expires)
VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9) ON CONFLICT (organisation, address, stream) DO UPDATE SET
    reason = excluded.reason, note = excluded.note, message = excluded.message, number = excluded.number,
    since = excluded.since, expires = excluded.expires;

-- name: unsuppress
DELETE FROM queue_suppression WHERE organisation = ?1 AND address = ?2 AND (stream = ?3 OR CAST(?3 AS BIGINT) = -1);

-- name: suppressed
SELECT organisation, address, stream, reason, note, message, number, since, expires FROM queue_suppression
WHERE organisation = ?1 AND address = ?2 AND stream IN (-1, ?3) AND (expires IS NULL OR expires > ?4) LIMIT 1;

-- name: any_suppressed
SELECT 1 FROM queue_suppression LIMIT 1;

-- name: suppressions
SELECT organisation, address, stream, reason, note, message, number, since, expires FROM queue_suppression
WHERE organisation = ?1 AND address > ?2 ORDER BY organisation, address, stream LIMIT ?3;

-- name: forget_suppressions
DELETE FROM queue_suppression WHERE expires IS NOT NULL AND expires <= ?1 AND (organisation, address, stream) IN
    (SELECT organisation, address, stream FROM queue_suppression WHERE expires IS NOT NULL ORDER BY expires LIMIT ?2);

-- name: strike
-- One for each day on which something failed.
INSERT INTO queue_strike (organisation, address, day, reported) VALUES (?1, ?2, ?3, ?4)
ON CONFLICT (organisation, address, day) DO UPDATE SET reported = excluded.reported WHERE queue_strike.reported < excluded.reported;

-- name: strikes
SELECT count(*) FROM queue_strike WHERE organisation = ?1 AND address = ?2 AND day > ?3;

-- name: forget_strikes
-- What was told by a report, too, if that is longer ago.
DELETE FROM queue_strike WHERE organisation = ?1 AND address = ?2 AND (reported = 0 OR day < ?3);

-- name: forget_suppressions_of
DELETE FROM queue_suppression WHERE (organisation, address, stream) IN
    (SELECT organisation, address, stream FROM queue_suppression WHERE organisation = ?1 LIMIT ?2);

-- name: forget_strikes_of
DELETE FROM queue_strike WHERE (organisation, address, day) IN
    (SELECT organisation, address, day FROM queue_strike WHERE organisation = ?1 LIMIT ?2);
