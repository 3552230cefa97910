-- What a recipient is resolved from.

-- name: address_add
-- The account is NULL for lists; members_send is 0 for all but groups that allow it.
INSERT INTO address (domain, local_part, kind, account, members_send, created) VALUES (?1, ?2, ?3, ?4, ?5, ?6);

-- name: address_get
-- Asked for every recipient that no cache knows; the account's quota comes along, so that RCPT needs no second query.
SELECT a.kind, a.account, a.members_send, a.created, c.quota
FROM address a LEFT JOIN account c ON c.id = a.account
WHERE a.domain = ?1 AND a.local_part = ?2;

-- name: address_list
-- A page of a domain's addresses in the order of the key; the caller asks again from the last one it got.
SELECT local_part, kind, account, members_send, created FROM address
WHERE domain = ?1 AND local_part > ?2 ORDER BY local_part LIMIT ?3;

-- name: address_of_account
-- All addresses that are the account itself, with the name of their domain.
SELECT d.id, d.name, a.local_part FROM address a JOIN domain d ON d.id = a.domain
WHERE a.account = ?1 ORDER BY d.id, a.local_part;

-- name: address_change
-- The kind and what hangs on it change together.
UPDATE address SET kind = ?3, account = ?4, members_send = ?5 WHERE domain = ?1 AND local_part = ?2;

-- name: address_remove
-- After its targets.
DELETE FROM address WHERE domain = ?1 AND local_part = ?2;

-- name: target_add
-- Places keep the order the administrator wrote them in.
INSERT INTO address_target (domain, local_part, place, target) VALUES (?1, ?2, ?3, ?4);

-- name: target_list
-- One more than is allowed, so that too many can be told from just enough.
SELECT target FROM address_target WHERE domain = ?1 AND local_part = ?2 ORDER BY place LIMIT ?3;

-- name: target_clear
-- A list is written anew as a whole.
DELETE FROM address_target WHERE domain = ?1 AND local_part = ?2;

-- name: target_of
-- Which list would point at nothing if this address went away; lists of the address itself do not count.
SELECT t.local_part, d.name FROM address_target t JOIN domain d ON d.id = t.domain
WHERE t.target = ?1 AND NOT (t.domain = ?2 AND t.local_part = ?3)
ORDER BY t.domain, t.local_part LIMIT 1;
