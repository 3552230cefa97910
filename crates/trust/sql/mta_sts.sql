-- Policies of recipient domains (RFC 8461), kept so that neither a restart nor an outage of their hosts takes the protection
-- away. Modes: 1 enforce, 2 testing, 3 none.

-- name: policy
SELECT id, mode, hosts, max_age, fetched FROM mta_sts_policy WHERE domain = ?1;

-- name: policy_keep
INSERT INTO mta_sts_policy (domain, id, mode, hosts, max_age, fetched, expires) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)
ON CONFLICT (domain) DO UPDATE SET id = excluded.id, mode = excluded.mode, hosts = excluded.hosts,
    max_age = excluded.max_age, fetched = excluded.fetched, expires = excluded.expires;

-- name: policies_expired
DELETE FROM mta_sts_policy
WHERE domain IN (SELECT domain FROM mta_sts_policy WHERE expires < ?1 ORDER BY expires LIMIT ?2);

-- name: policies_surplus
-- Older than the ?1 newest; none is where there are not so many.
DELETE FROM mta_sts_policy
WHERE domain IN (SELECT domain FROM mta_sts_policy ORDER BY fetched DESC LIMIT ?2 OFFSET ?1);
