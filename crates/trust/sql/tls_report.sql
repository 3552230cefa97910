-- What came of TLS with hosts of recipient domains that have a policy (RFC 8460), by day and policy, until it is reported.
-- Kinds: 1 TLSA records of a host, 2 an MTA-STS policy. A name tells policies of one kind apart: the host, the id.

-- name: sessions_add
INSERT INTO tls_sessions (day, domain, kind, name, policy, hosts, good, bad) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)
ON CONFLICT (day, domain, kind, name) DO UPDATE SET policy = excluded.policy, hosts = excluded.hosts,
    good = tls_sessions.good + excluded.good, bad = tls_sessions.bad + excluded.bad;

-- name: sessions_more
UPDATE tls_sessions SET policy = ?5, hosts = ?6, good = good + ?7, bad = bad + ?8
WHERE day = ?1 AND domain = ?2 AND kind = ?3 AND name = ?4;

-- name: sessions_rows
SELECT COUNT(*) FROM tls_sessions WHERE day = ?1 AND domain = ?2;

-- name: sessions_of
SELECT kind, name, policy, hosts, good, bad FROM tls_sessions WHERE day = ?1 AND domain = ?2 ORDER BY kind, name;

-- name: sessions_days
SELECT DISTINCT day, domain FROM tls_sessions WHERE day < ?1 AND (day, domain) > (?2, ?3) ORDER BY day, domain LIMIT ?4;

-- name: sessions_remove
DELETE FROM tls_sessions WHERE day = ?1 AND domain = ?2;

-- name: failures_add
INSERT INTO tls_failures (day, domain, kind, name, result, host, ip, sender, why, n)
VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)
ON CONFLICT (day, domain, kind, name, result, host, ip) DO UPDATE SET n = tls_failures.n + excluded.n;

-- name: failures_more
UPDATE tls_failures SET n = n + ?8
WHERE day = ?1 AND domain = ?2 AND kind = ?3 AND name = ?4 AND result = ?5 AND host = ?6 AND ip = ?7;

-- name: failures_rows
SELECT COUNT(*) FROM tls_failures WHERE day = ?1 AND domain = ?2;

-- name: failures_of
SELECT result, host, ip, sender, why, n FROM tls_failures
WHERE day = ?1 AND domain = ?2 AND kind = ?3 AND name = ?4 ORDER BY result, host, ip;

-- name: failures_remove
DELETE FROM tls_failures WHERE day = ?1 AND domain = ?2;
