-- What proves that somebody is an account.

-- name: credential_add
-- Kind 1: an Argon2id hash in PHC form. Kind 2: the SCRAM keys of a generated app password.
INSERT INTO credential (account, id, kind, name, secret, created, last_used, stream) VALUES (?1, ?2, ?3, ?4, ?5, ?6, NULL, ?7);

-- name: credential_list
-- Without the secret: for people to look at.
SELECT id, kind, name, created, last_used, stream FROM credential WHERE account = ?1 ORDER BY id;

-- name: credential_secrets
-- Bounded by the number of app passwords an account may have.
SELECT id, kind, secret, stream FROM credential WHERE account = ?1 ORDER BY id;

-- name: credential_remove
-- One of them.
DELETE FROM credential WHERE account = ?1 AND id = ?2;

-- name: credential_remove_kind
-- The old password goes when a new one is set.
DELETE FROM credential WHERE account = ?1 AND kind = ?2;

-- name: credential_remove_all
-- With the account.
DELETE FROM credential WHERE account = ?1;

-- name: credential_used
-- For people who wonder which app password may go; never moves back, and is no change of the credential.
UPDATE credential SET last_used = ?3 WHERE account = ?1 AND id = ?2 AND (last_used IS NULL OR last_used < ?3);

-- name: sign_in_account
-- All that a sign-in needs to know of the account.
SELECT id, organisation, administrator, disabled, credential_version, stream FROM account WHERE login = ?1;

-- name: secret_get
-- Random bytes made once for this store.
SELECT value FROM directory_secret WHERE name = ?1;

-- name: secret_add
-- The first to come wins: all nodes on one store must agree.
INSERT INTO directory_secret (name, value) VALUES (?1, ?2) ON CONFLICT (name) DO NOTHING;
