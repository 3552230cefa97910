-- Domains whose mail we take.

-- name: domain_add
-- An empty catch_all is none; an empty separator switches sub-addresses off.
INSERT INTO domain (id, organisation, name, detail_separator, catch_all, created) VALUES (?1, ?2, ?3, ?4, '', ?5);

-- name: domain_list
-- By number: the oldest domain is the one a bare <postmaster> belongs to.
SELECT id, organisation, name, detail_separator, catch_all, created FROM domain ORDER BY id;

-- name: domain_first
-- The oldest domain.
SELECT id, organisation, name, detail_separator, catch_all, created FROM domain ORDER BY id LIMIT 1;

-- name: domain_by_name
-- Asked for every domain of every recipient that no cache knows; the unique index answers.
SELECT id, organisation, name, detail_separator, catch_all, created FROM domain WHERE name = ?1;

-- name: domain_by_id
-- For the verbs that are given an id.
SELECT id, organisation, name, detail_separator, catch_all, created FROM domain WHERE id = ?1;

-- name: domain_change
-- Both settings at once: the caller has read the row in the same transaction.
UPDATE domain SET detail_separator = ?2, catch_all = ?3 WHERE id = ?1;

-- name: domain_in_use
-- One row when it still has addresses.
SELECT 1 FROM address WHERE domain = ?1 LIMIT 1;

-- name: domain_remove
-- Only after domain_in_use found nothing.
DELETE FROM domain WHERE id = ?1;

-- name: domain_with_catch_all
-- Which domain would lose its catch-all if this address went away.
SELECT name FROM domain WHERE catch_all = ?1 ORDER BY id LIMIT 1;
