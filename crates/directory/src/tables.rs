//! The tables of who is who. Other crates never name them: they use this crate's verbs.

use store::Migrations;

/// This crate's migrations, for [`store::Store::open`].
///
/// Ids come from `directory_counter`, inside the transaction that uses them, so that both engines number alike and no
/// id is ever given twice. Addresses are kept as [`crate::canonical`] writes them.
pub const MIGRATIONS: Migrations = Migrations { owner: "directory", steps: &[FIRST, ALLOWANCE] };

const FIRST: &str = "
CREATE TABLE directory_counter (name {text} PRIMARY KEY, last {int} NOT NULL) {table};
INSERT INTO directory_counter (name, last) VALUES ('organisation', 0), ('domain', 0), ('account', 0), ('change', 0);

CREATE TABLE directory_secret (name {text} PRIMARY KEY, value {bytes} NOT NULL) {table};

CREATE TABLE organisation (
    id {int} PRIMARY KEY,
    name {text} NOT NULL,
    created {int} NOT NULL
) {table};

CREATE TABLE domain (
    id {int} PRIMARY KEY,
    organisation {int} NOT NULL,
    name {text} NOT NULL,
    detail_separator {text} NOT NULL,
    catch_all {text} NOT NULL,
    created {int} NOT NULL
) {table};
CREATE UNIQUE INDEX domain_by_name ON domain (name);
CREATE INDEX domain_by_organisation ON domain (organisation, id);
CREATE INDEX domain_by_catch_all ON domain (catch_all);

CREATE TABLE account (
    id {int} PRIMARY KEY,
    organisation {int} NOT NULL,
    login {text} NOT NULL,
    name {text} NOT NULL,
    quota {int},
    administrator {int} NOT NULL,
    disabled {int} NOT NULL,
    stream {int} NOT NULL,
    credential_version {int} NOT NULL,
    created {int} NOT NULL
) {table};
CREATE UNIQUE INDEX account_by_login ON account (login);
CREATE INDEX account_by_organisation ON account (organisation, id);
CREATE INDEX account_administrators ON account (organisation, id) WHERE administrator <> 0;

CREATE TABLE address (
    domain {int} NOT NULL,
    local_part {text} NOT NULL,
    kind {int} NOT NULL,
    account {int},
    members_send {int} NOT NULL,
    created {int} NOT NULL,
    PRIMARY KEY (domain, local_part)
) {clustered};
CREATE INDEX address_by_account ON address (account);

CREATE TABLE address_target (
    domain {int} NOT NULL,
    local_part {text} NOT NULL,
    place {int} NOT NULL,
    target {text} NOT NULL,
    PRIMARY KEY (domain, local_part, place)
) {clustered};
CREATE INDEX address_target_by_target ON address_target (target);

CREATE TABLE credential (
    account {int} NOT NULL,
    id {int} NOT NULL,
    kind {int} NOT NULL,
    name {text} NOT NULL,
    secret {text} NOT NULL,
    created {int} NOT NULL,
    last_used {int},
    stream {int},
    PRIMARY KEY (account, id)
) {clustered};
";

/// A row an account that ever wrote to other hosts; written with each such mail, so it is narrow and apart.
const ALLOWANCE: &str = "
CREATE TABLE account_sent (
    account {int} PRIMARY KEY,
    since {int} NOT NULL,
    recipients {int} NOT NULL
) {table};
";
