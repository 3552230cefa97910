-- Accounts: one person or role that logs in.

-- name: account_add
-- Its stream is people's mail. Credential versions begin at 0; each change of a credential takes the next.
INSERT INTO account (id, organisation, login, name, quota, administrator, disabled, stream, credential_version, created)
VALUES (?1, ?2, ?3, ?4, ?5, ?6, 0, 0, 0, ?7);

-- name: account_list
-- A page of an organisation's accounts, by number; the caller asks again from the last one it got.
SELECT id, organisation, login, name, quota, administrator, disabled, created, stream FROM account
WHERE organisation = ?1 AND id > ?2 ORDER BY id LIMIT ?3;

-- name: account_by_id
-- For the verbs that are given an id.
SELECT id, organisation, login, name, quota, administrator, disabled, created, stream FROM account WHERE id = ?1;

-- name: account_by_login
-- The login is kept in its canonical form; the unique index answers.
SELECT id, organisation, login, name, quota, administrator, disabled, created, stream FROM account WHERE login = ?1;

-- name: account_change
-- All that may change at once: the caller has read the row in the same transaction.
UPDATE account SET login = ?2, name = ?3, quota = ?4, administrator = ?5, disabled = ?6, stream = ?7 WHERE id = ?1;

-- name: account_remove
-- After its addresses and credentials.
DELETE FROM account WHERE id = ?1;

-- name: account_next_version
-- Numbers a credential, and makes what was cached for the earlier ones worthless.
UPDATE account SET credential_version = credential_version + 1 WHERE id = ?1 RETURNING credential_version;

-- name: account_postmaster
-- Who reads postmaster@ and abuse@ where nobody defined them: the first administrator of the organisation who may sign
-- in; failing that a disabled one; failing that an administrator of another organisation, because somebody has to.
SELECT id, quota FROM account WHERE administrator <> 0
ORDER BY organisation <> ?1, disabled, id LIMIT 1;

-- name: sent_since
-- What an account has sent in the day that is not over; ?2 is a day ago, ?3 now.
SELECT recipients FROM account_sent WHERE account = ?1 AND since > ?2 AND since <= ?3;

-- name: sent_add
-- A new day begins with the first mail after the last is over (or lies in the future: the clock was wrong). ?2 recipients
-- more, ?3 now, ?4 a day ago. The row is locked, so mails of several sessions count one after another.
INSERT INTO account_sent (account, since, recipients) VALUES (?1, ?3, ?2)
ON CONFLICT (account) DO UPDATE SET
    recipients = excluded.recipients
        + CASE WHEN account_sent.since > ?4 AND account_sent.since <= excluded.since THEN account_sent.recipients ELSE 0 END,
    since = CASE WHEN account_sent.since > ?4 AND account_sent.since <= excluded.since THEN account_sent.since
        ELSE excluded.since END
RETURNING recipients;

-- name: sent_remove
-- With its account.
DELETE FROM account_sent WHERE account = ?1;
