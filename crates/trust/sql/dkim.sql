-- Keys that sign mail, a pair of them at a time: one of each algorithm. States as `State` numbers them: 1 waits for its
-- DNS record, 2 signs, 3 has signed.

-- name: key_add
INSERT INTO dkim_key (domain, selector, algorithm, private_key, public_key, state, since)
VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7);

-- name: keys_of
-- By selector, so that signatures stand in the same order in every mail.
SELECT selector, algorithm, private_key, public_key, state, since FROM dkim_key WHERE domain = ?1 ORDER BY selector;

-- name: key_retire
-- Nobody signs with it again: what is gone cannot be stolen.
UPDATE dkim_key SET state = 3, since = ?3, private_key = ?4 WHERE domain = ?1 AND selector = ?2 AND state = 2;

-- name: keys_activate
-- Of two jobs that want the same, the second finds none.
UPDATE dkim_key SET state = 2, since = ?2 WHERE domain = ?1 AND state = 1;

-- name: key_forget
DELETE FROM dkim_key WHERE domain = ?1 AND selector = ?2 AND state = 3;

-- name: keys_remove
DELETE FROM dkim_key WHERE domain = ?1;

-- name: key_domains
SELECT DISTINCT domain FROM dkim_key ORDER BY domain;

-- name: key_domains_unsettled
-- Something is to be looked up in the DNS for them: a key that waits, or one that has been retired since before ?1.
SELECT DISTINCT domain FROM dkim_key WHERE state = 1 OR (state = 3 AND since < ?1) ORDER BY domain;
