-- What must hold between the tables. Each statement of the first part answers with one text a fault; those of the second
-- part answer with what is checked in code. All walk whole tables: they are for `postroom verify`, not for sessions.

-- name: verify_domain_owner
-- Domains without an organisation.
SELECT name FROM domain WHERE organisation NOT IN (SELECT id FROM organisation) ORDER BY id;

-- name: verify_account_owner
-- Accounts without an organisation.
SELECT login FROM account WHERE organisation NOT IN (SELECT id FROM organisation) ORDER BY id;

-- name: verify_login
-- A login is an address of its account; quoted local parts are compared by the code's spelling, not here.
SELECT login FROM account c WHERE NOT EXISTS (
    SELECT 1 FROM address a JOIN domain d ON d.id = a.domain
    WHERE a.account = c.id AND (a.local_part || '@' || d.name = c.login OR c.login LIKE '"%')
) ORDER BY id;

-- name: verify_address_domain
-- Addresses whose domain is gone can not be reached.
SELECT local_part FROM address WHERE domain NOT IN (SELECT id FROM domain) ORDER BY domain, local_part;

-- name: verify_address_account
-- An address is an account's, which exists, or a list's.
SELECT a.local_part || '@' || d.name FROM address a JOIN domain d ON d.id = a.domain
WHERE a.kind NOT BETWEEN 1 AND 4
   OR (a.kind = 1) <> (a.account IS NOT NULL)
   OR (a.account IS NOT NULL AND a.account NOT IN (SELECT id FROM account))
ORDER BY a.domain, a.local_part;

-- name: verify_empty_list
-- Mail to such an address would be refused.
SELECT a.local_part || '@' || d.name FROM address a JOIN domain d ON d.id = a.domain
WHERE a.kind <> 1 AND NOT EXISTS (
    SELECT 1 FROM address_target t WHERE t.domain = a.domain AND t.local_part = a.local_part
) ORDER BY a.domain, a.local_part;

-- name: verify_stray_target
-- Targets that belong to no list.
SELECT t.target FROM address_target t LEFT JOIN address a ON a.domain = t.domain AND a.local_part = t.local_part
WHERE a.kind IS NULL OR a.kind = 1 ORDER BY t.domain, t.local_part, t.place;

-- name: verify_credential_account
-- Credentials of nobody.
SELECT CAST(account AS TEXT) FROM credential WHERE account NOT IN (SELECT id FROM account) ORDER BY account, id;

-- name: verify_credential_number
-- A number above the account's version would be given again, and caches would take old for new.
SELECT CAST(c.account AS TEXT) FROM credential c JOIN account a ON a.id = c.account
WHERE c.id > a.credential_version ORDER BY c.account, c.id;

-- name: verify_one_password
-- Only the last one read would work.
SELECT CAST(account AS TEXT) FROM credential WHERE kind = 1 GROUP BY account HAVING count(*) > 1 ORDER BY account;

-- name: verify_counter
-- A counter behind its table would give a number twice.
SELECT name FROM directory_counter
WHERE (name = 'organisation' AND last < (SELECT coalesce(max(id), 0) FROM organisation))
   OR (name = 'domain' AND last < (SELECT coalesce(max(id), 0) FROM domain))
   OR (name = 'account' AND last < (SELECT coalesce(max(id), 0) FROM account))
ORDER BY name;

-- name: verify_targets
-- Where lists and catch-alls lead, each once.
SELECT target FROM address_target UNION SELECT catch_all FROM domain WHERE catch_all <> '' ORDER BY 1;

-- name: verify_secrets
-- All secrets, in the order of accounts.
SELECT account, kind, secret FROM credential ORDER BY account, id;
