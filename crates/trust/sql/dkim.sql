-- Keys that sign mail. A domain has one of each algorithm; they live and go with it.

-- name: key_add
INSERT INTO dkim_key (domain, selector, algorithm, private_key, public_key, created) VALUES (?1, ?2, ?3, ?4, ?5, ?6);

-- name: keys_of
-- By selector, so that signatures stand in the same order in every mail.
SELECT selector, algorithm, private_key, public_key FROM dkim_key WHERE domain = ?1 ORDER BY selector;

-- name: keys_remove
DELETE FROM dkim_key WHERE domain = ?1;

-- name: key_domains
SELECT DISTINCT domain FROM dkim_key ORDER BY domain;
