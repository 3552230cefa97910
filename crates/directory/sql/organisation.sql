-- Organisations, and the counters that number them, their domains and their accounts.

-- name: next_id
-- The row is locked from here to the commit, so the order of numbers is the order of commits; and so the row `change`
-- serves as the lock under which the directory is changed.
UPDATE directory_counter SET last = last + 1 WHERE name = ?1 RETURNING last;

-- name: organisation_add
-- Under the lock of `next_id`, after a look that no other has the name.
INSERT INTO organisation (id, name, created) VALUES (?1, ?2, ?3);

-- name: organisation_list
-- By number, which is by age.
SELECT id, name, created FROM organisation ORDER BY id;

-- name: organisation_get
-- Also answers whether there is such an organisation.
SELECT id, name, created FROM organisation WHERE id = ?1;

-- name: organisation_rename
-- Changes nothing, and says so, when there is no such organisation.
UPDATE organisation SET name = ?2 WHERE id = ?1;

-- name: organisation_in_use
-- One row when anything still belongs to it; LIMIT, because one is enough to refuse.
SELECT 1 FROM domain WHERE organisation = ?1
UNION ALL
SELECT 1 FROM account WHERE organisation = ?1
LIMIT 1;

-- name: organisation_remove
-- Only after organisation_in_use found nothing.
DELETE FROM organisation WHERE id = ?1;
