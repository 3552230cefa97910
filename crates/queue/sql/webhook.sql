-- Webhooks: who is told what happens, and how far that has come.

-- name: webhooks
SELECT id, url, organisation, stream, types, secret, former, former_until, state, made, generation, position, taken, given_up,
    lost, last_taken, failing, why
FROM queue_webhook ORDER BY id;

-- name: next_webhook
SELECT COALESCE(max(id), 0) + 1 FROM queue_webhook;

-- name: add
INSERT INTO queue_webhook (id, url, organisation, stream, types, secret, state, made, generation, holder, position, taken,
    given_up, lost, why)
VALUES (?1, ?2, ?3, ?4, ?5, ?6, 0, ?7, 0, 0, ?8, 0, 0, 0, ?9);

-- name: remove
DELETE FROM queue_webhook WHERE id = ?1;

-- name: set_state
UPDATE queue_webhook SET state = ?2, why = ?3 WHERE id = ?1;

-- name: begin_anew
-- What is known of its failures is of the past; who is sending to it reads again where it stands.
UPDATE queue_webhook SET state = 0, failing = NULL, generation = generation + 1 WHERE id = ?1;

-- name: rotate
UPDATE queue_webhook SET secret = ?2, former = secret, former_until = ?3 WHERE id = ?1;

-- name: replay
UPDATE queue_webhook SET position = ?2, generation = generation + 1 WHERE id = ?1;

-- name: hold
-- One at a time sends to it: who holds it, unless his life is over.
UPDATE queue_webhook SET holder = ?2 WHERE id = ?1
    AND (holder = ?2 OR NOT EXISTS (SELECT 1 FROM queue_epoch WHERE epoch = queue_webhook.holder));

-- name: is_held
SELECT 1 FROM queue_webhook w WHERE w.id = ?1 AND w.holder <> ?2
    AND EXISTS (SELECT 1 FROM queue_epoch e WHERE e.epoch = w.holder);

-- name: let_go
UPDATE queue_webhook SET holder = 0 WHERE id = ?1 AND holder = ?2;

-- name: progress
-- Only by who holds it, and as long as nobody set it elsewhere.
UPDATE queue_webhook SET position = ?4, taken = taken + ?5, given_up = given_up + ?6, lost = lost + ?7, last_taken = ?8,
    failing = ?9, why = ?10
WHERE id = ?1 AND holder = ?2 AND generation = ?3;

-- name: waiting
SELECT position, place, tries, due, since FROM queue_webhook_waiting WHERE webhook = ?1 ORDER BY position, place;

-- name: wait
INSERT INTO queue_webhook_waiting (webhook, position, place, tries, due, since) VALUES (?1, ?2, ?3, ?4, ?5, ?6)
ON CONFLICT (webhook, position, place) DO UPDATE SET tries = excluded.tries, due = excluded.due, since = excluded.since;

-- name: wait_no_more
DELETE FROM queue_webhook_waiting WHERE webhook = ?1 AND position = ?2 AND place = ?3;

-- name: forget_waiting
DELETE FROM queue_webhook_waiting WHERE webhook = ?1 AND position > ?2;

-- name: hurry
UPDATE queue_webhook_waiting SET tries = CASE WHEN tries > 0 THEN 1 ELSE 0 END, due = ?2, since = ?2 WHERE webhook = ?1;
