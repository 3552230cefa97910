-- The statements of the mailbox crate, for both engines. Every key begins with the account, so that tables can be cut
-- by it. Who writes for an account begins by changing its row in mail_account: that is the lock, and it makes the order
-- of MODSEQs the order of commits.

-- name: new_account
INSERT INTO mail_account (account, modseq, next_email, next_mailbox, uid_validity, used, quota)
VALUES (?1, 1, 1, 1, 0, 0, ?2);

-- name: remove_account
DELETE FROM mail_account WHERE account = ?1;

-- name: set_quota
UPDATE mail_account SET quota = ?2 WHERE account = ?1;

-- name: account_use
SELECT used, quota, modseq FROM mail_account WHERE account = ?1;

-- name: accounts
SELECT account, modseq, next_email, next_mailbox, used FROM mail_account ORDER BY account;

-- name: next_modseq
-- Takes the account's lock and its next MODSEQ.
UPDATE mail_account SET modseq = modseq + 1 WHERE account = ?1 RETURNING modseq;

-- name: lock_account
-- The lock alone, for housekeeping that changes nothing a client sees. On PostgreSQL two of them would else work on the
-- same rows at once.
UPDATE mail_account SET used = used WHERE account = ?1;

-- name: next_email
-- The same for an arrival: one statement takes lock, MODSEQ, the mail's number and the room it needs.
UPDATE mail_account SET modseq = modseq + 1, next_email = next_email + ?2, used = used + ?3
WHERE account = ?1 RETURNING modseq, next_email - ?2, used, quota;

-- name: change_use
UPDATE mail_account SET used = used + ?2 WHERE account = ?1;

-- name: next_mailbox
-- A mailbox made anew under an old name must have a greater UIDVALIDITY (RFC 9051 section 2.3.1.1), even within a second.
UPDATE mail_account SET modseq = modseq + 1, next_mailbox = next_mailbox + 1,
    uid_validity = CASE WHEN uid_validity >= ?2 THEN uid_validity + 1 ELSE ?2 END
WHERE account = ?1 RETURNING next_mailbox - 1, uid_validity, modseq;

-- name: insert_mailbox
INSERT INTO mailbox (account, id, name, uid_validity, uid_next, modseq, before, folded, reaped, floor,
    messages, unseen, deleted, octets, special_use)
VALUES (?1, ?2, ?3, ?4, 1, ?5, ?5, ?5, ?5, ?5, 0, 0, 0, 0, ?6);

-- name: mailbox_by_name
SELECT id FROM mailbox WHERE account = ?1 AND name = ?2;

-- name: mailbox_by_use
SELECT id FROM mailbox WHERE account = ?1 AND special_use = ?2 LIMIT 1;

-- name: count_mailboxes
SELECT count(*) FROM mailbox WHERE account = ?1;

-- name: mailboxes_between
SELECT name FROM mailbox WHERE account = ?1 AND name >= ?2 AND name < ?3 ORDER BY name;

-- name: mailbox_row
SELECT uid_validity, uid_next, modseq, folded, reaped, floor, messages, unseen, deleted, octets, name, special_use
FROM mailbox WHERE account = ?1 AND id = ?2;

-- name: mailboxes
SELECT uid_validity, uid_next, modseq, folded, reaped, floor, messages, unseen, deleted, octets, name, special_use, id
FROM mailbox WHERE account = ?1 ORDER BY name;

-- name: rename_mailbox
UPDATE mailbox SET name = ?3 WHERE account = ?1 AND id = ?2;

-- name: rename_mailboxes_between
-- All below a mailbox at once: what stood below ?4 stands below ?5.
UPDATE mailbox SET name = CAST(?5 AS TEXT) || substr(name, length(CAST(?4 AS TEXT)) + 1)
WHERE account = ?1 AND name >= ?2 AND name < ?3;

-- name: delete_mailbox
DELETE FROM mailbox WHERE account = ?1 AND id = ?2;

-- name: arrive
-- Takes a run of UIDs and counts the arrivals in; `before` tells live views whether they missed something.
UPDATE mailbox SET before = modseq, modseq = ?3, uid_next = uid_next + ?4, messages = messages + ?4,
    unseen = unseen + ?5, deleted = deleted + ?6, octets = octets + ?7
WHERE account = ?1 AND id = ?2 RETURNING before, uid_next - ?4, uid_validity;

-- name: count
UPDATE mailbox SET before = modseq, modseq = ?3, messages = messages + ?4, unseen = unseen + ?5, deleted = deleted + ?6,
    octets = octets + ?7
WHERE account = ?1 AND id = ?2;

-- name: insert_email
-- One wide row, in a table ordered by one integer (account and number together): a delivery touches one page here. The
-- index of the message stands last, so that what is before it is read without the pages a long one flows over into.
INSERT INTO email (key, blob, octets, received, prefix, data) VALUES (?1, ?2, ?3, ?4, ?5, ?6);

-- name: insert_place
INSERT INTO place (account, mailbox, uid, email, modseq, flags, octets, saved) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8);

-- name: add_copy
-- Mails that stand in several places are few: only they have a row here, and an index by mail is not needed.
INSERT INTO email_copies (key, copies) VALUES (?1, 1)
ON CONFLICT (key) DO UPDATE SET copies = email_copies.copies + 1;

-- name: places_from
SELECT uid, email, modseq, flags, octets FROM place WHERE account = ?1 AND mailbox = ?2 AND uid >= ?3 ORDER BY uid;

-- name: place_saved
SELECT saved FROM place WHERE account = ?1 AND mailbox = ?2 AND uid = ?3;

-- name: email_row
SELECT blob, octets, received, prefix FROM email WHERE key = ?1;

-- name: cache_row
SELECT data FROM email WHERE key = ?1;

-- name: insert_log
INSERT INTO mailbox_log (account, mailbox, modseq, kind, data) VALUES (?1, ?2, ?3, ?4, ?5);

-- name: log_after
SELECT modseq, data FROM mailbox_log WHERE account = ?1 AND mailbox = ?2 AND modseq > ?3 ORDER BY modseq;

-- name: expunged_after
-- What QRESYNC's VANISHED (EARLIER) is made of.
SELECT data FROM mailbox_log WHERE account = ?1 AND mailbox = ?2 AND modseq > ?3 AND kind = 2 ORDER BY modseq;

-- name: keywords
SELECT name FROM keyword WHERE account = ?1 AND mailbox = ?2 ORDER BY bit;

-- name: insert_keyword
INSERT INTO keyword (account, mailbox, bit, name) VALUES (?1, ?2, ?3, ?4);

-- name: chunks
SELECT data FROM flag_chunk WHERE account = ?1 AND mailbox = ?2 ORDER BY first_uid;

-- name: put_chunk
INSERT INTO flag_chunk (account, mailbox, first_uid, data) VALUES (?1, ?2, ?3, ?4)
ON CONFLICT (account, mailbox, first_uid) DO UPDATE SET data = excluded.data;

-- name: set_folded
UPDATE mailbox SET folded = ?3 WHERE account = ?1 AND id = ?2;

-- name: drop_folded_log
-- Flag entries are in the chunks now; expunges stay for QRESYNC.
DELETE FROM mailbox_log WHERE account = ?1 AND mailbox = ?2 AND modseq <= ?3 AND kind = 1;

-- name: next_unreaped
-- Asked at start alone, of one mailbox after the other.
SELECT account, id FROM mailbox WHERE (account, id) > (?1, ?2) AND EXISTS (SELECT 1 FROM mailbox_log
    WHERE mailbox_log.account = mailbox.account AND mailbox_log.mailbox = mailbox.id
        AND mailbox_log.modseq > mailbox.reaped AND kind = 2)
ORDER BY account, id LIMIT 1;

-- name: set_reaped
UPDATE mailbox SET reaped = ?3 WHERE account = ?1 AND id = ?2;

-- name: place_emails
SELECT uid, email FROM place WHERE account = ?1 AND mailbox = ?2 AND uid >= ?3 AND uid <= ?4 ORDER BY uid LIMIT ?5;

-- name: delete_place
DELETE FROM place WHERE account = ?1 AND mailbox = ?2 AND uid = ?3;

-- name: copy_gone
UPDATE email_copies SET copies = copies - 1 WHERE key = ?1 RETURNING copies;

-- name: no_copies
DELETE FROM email_copies WHERE key = ?1;

-- name: delete_email
DELETE FROM email WHERE key = ?1;

-- name: count_tombstones
SELECT count(*) FROM mailbox_log WHERE account = ?1 AND mailbox = ?2 AND kind = 2;

-- name: nth_tombstone
SELECT modseq FROM mailbox_log WHERE account = ?1 AND mailbox = ?2 AND kind = 2 ORDER BY modseq LIMIT 1 OFFSET ?3;

-- name: drop_tombstones
DELETE FROM mailbox_log WHERE account = ?1 AND mailbox = ?2 AND modseq <= ?3;

-- name: set_floor
UPDATE mailbox SET floor = ?3 WHERE account = ?1 AND id = ?2;

-- name: orphans
-- A mailbox that was deleted leaves its places behind; they are taken away in pieces.
INSERT INTO deleted_mailbox (account, id) VALUES (?1, ?2);

-- name: next_orphan
SELECT account, id FROM deleted_mailbox ORDER BY account, id LIMIT 1;

-- name: lock_orphan
-- Of an account that is gone there is no row left to lock.
UPDATE deleted_mailbox SET id = id WHERE account = ?1 AND id = ?2;

-- name: orphan_done
DELETE FROM deleted_mailbox WHERE account = ?1 AND id = ?2;

-- name: drop_log
DELETE FROM mailbox_log WHERE account = ?1 AND mailbox = ?2;

-- name: drop_chunks
DELETE FROM flag_chunk WHERE account = ?1 AND mailbox = ?2;

-- name: drop_keywords
DELETE FROM keyword WHERE account = ?1 AND mailbox = ?2;

-- name: count_subscriptions
SELECT count(*) FROM subscription WHERE account = ?1;

-- name: subscribe
INSERT INTO subscription (account, name) VALUES (?1, ?2) ON CONFLICT (account, name) DO NOTHING;

-- name: unsubscribe
DELETE FROM subscription WHERE account = ?1 AND name = ?2;

-- name: subscriptions
SELECT name FROM subscription WHERE account = ?1 ORDER BY name;

-- name: all_emails
SELECT key, blob, octets, prefix FROM email WHERE key >= ?1 AND key < ?2 ORDER BY key;

-- name: all_copies
SELECT key, copies FROM email_copies WHERE key >= ?1 AND key < ?2 ORDER BY key;

-- name: all_places
SELECT email FROM place WHERE account = ?1 ORDER BY email;

-- name: blobs_between
-- What lives in a pack, by the index alone: a mail to many is one blob in many rows.
SELECT blob, max(octets) FROM email WHERE blob >= ?1 AND blob < ?2 GROUP BY blob ORDER BY blob LIMIT ?3;

-- name: repoint
-- The blob was copied. On PostgreSQL a row may go while this waits for it.
UPDATE email SET blob = ?2 WHERE blob = ?1 AND key IN (SELECT key FROM email WHERE blob = ?1 ORDER BY key LIMIT ?3);
