-- The secret that signs return addresses of forwarded mail. There is one, made when it is first needed.

-- name: secret
SELECT secret FROM srs_secret WHERE id = 1;

-- name: secret_add
-- Of two who make one the second fails by the key, and reads the first's when it is run again.
INSERT INTO srs_secret (id, secret, made) VALUES (1, ?1, ?2);
