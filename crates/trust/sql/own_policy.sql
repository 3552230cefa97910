-- What the policies of our own domains ask (RFC 8461); a domain without a row is in testing. Modes as in mta_sts.sql.

-- name: own_mode
SELECT mode FROM own_policy WHERE domain = ?1;

-- name: own_mode_set
INSERT INTO own_policy (domain, mode) VALUES (?1, ?2) ON CONFLICT (domain) DO UPDATE SET mode = excluded.mode;

-- name: own_mode_remove
DELETE FROM own_policy WHERE domain = ?1;
