//! The tables, and every statement by its name.

use store::Migrations;

/// The tables of this crate.
pub const MIGRATIONS: Migrations = Migrations { owner: "mailbox", steps: &[FIRST, BLOBS] };

const FIRST: &str = "
CREATE TABLE mail_account (account {int} PRIMARY KEY, modseq {int} NOT NULL, next_email {int} NOT NULL,
    next_mailbox {int} NOT NULL, uid_validity {int} NOT NULL, used {int} NOT NULL, quota {int} NOT NULL) {table};
CREATE TABLE mailbox (account {int} NOT NULL, id {int} NOT NULL, name {text} NOT NULL, uid_validity {int} NOT NULL,
    uid_next {int} NOT NULL, modseq {int} NOT NULL, before {int} NOT NULL, folded {int} NOT NULL, reaped {int} NOT NULL,
    floor {int} NOT NULL, messages {int} NOT NULL, unseen {int} NOT NULL, deleted {int} NOT NULL, octets {int} NOT NULL,
    special_use {text} NOT NULL, PRIMARY KEY (account, id)) {clustered};
CREATE UNIQUE INDEX mailbox_name ON mailbox (account, name);
CREATE TABLE deleted_mailbox (account {int} NOT NULL, id {int} NOT NULL, PRIMARY KEY (account, id)) {clustered};
CREATE TABLE subscription (account {int} NOT NULL, name {text} NOT NULL, PRIMARY KEY (account, name)) {clustered};
CREATE TABLE email (key {int} PRIMARY KEY, blob {int} NOT NULL, octets {int} NOT NULL, received {int} NOT NULL,
    prefix {bytes} NOT NULL, data {bytes} NOT NULL) {table};
CREATE TABLE email_copies (key {int} PRIMARY KEY, copies {int} NOT NULL) {table};
CREATE TABLE place (account {int} NOT NULL, mailbox {int} NOT NULL, uid {int} NOT NULL, email {int} NOT NULL,
    modseq {int} NOT NULL, flags {int} NOT NULL, octets {int} NOT NULL, saved {int} NOT NULL,
    PRIMARY KEY (account, mailbox, uid)) {clustered};
CREATE TABLE keyword (account {int} NOT NULL, mailbox {int} NOT NULL, bit {int} NOT NULL, name {text} NOT NULL,
    PRIMARY KEY (account, mailbox, bit)) {clustered};
CREATE TABLE mailbox_log (account {int} NOT NULL, mailbox {int} NOT NULL, modseq {int} NOT NULL, kind {int} NOT NULL,
    data {bytes} NOT NULL, PRIMARY KEY (account, mailbox, modseq)) {clustered};
CREATE TABLE flag_chunk (account {int} NOT NULL, mailbox {int} NOT NULL, first_uid {int} NOT NULL, data {bytes} NOT NULL,
    PRIMARY KEY (account, mailbox, first_uid)) {clustered};
";

/// What lives in a pack is asked by this index alone. Blobs come in rising order, so a mail costs an entry at its end.
const BLOBS: &str = "CREATE INDEX email_by_blob ON email (blob, octets);";

store::statements! { include_str!("../sql/mailbox.sql");
    NEW_ACCOUNT = "new_account",
    REMOVE_ACCOUNT = "remove_account",
    SET_QUOTA = "set_quota",
    ACCOUNT_USE = "account_use",
    ACCOUNTS = "accounts",
    NEXT_MODSEQ = "next_modseq",
    LOCK_ACCOUNT = "lock_account",
    NEXT_EMAIL = "next_email",
    CHANGE_USE = "change_use",
    NEXT_MAILBOX = "next_mailbox",
    INSERT_MAILBOX = "insert_mailbox",
    MAILBOX_BY_NAME = "mailbox_by_name",
    MAILBOX_BY_USE = "mailbox_by_use",
    COUNT_MAILBOXES = "count_mailboxes",
    MAILBOXES_BETWEEN = "mailboxes_between",
    MAILBOX_ROW = "mailbox_row",
    MAILBOXES = "mailboxes",
    RENAME_MAILBOX = "rename_mailbox",
    RENAME_MAILBOXES_BETWEEN = "rename_mailboxes_between",
    DELETE_MAILBOX = "delete_mailbox",
    ARRIVE = "arrive",
    COUNT = "count",
    INSERT_EMAIL = "insert_email",
    INSERT_PLACE = "insert_place",
    ADD_COPY = "add_copy",
    PLACES_FROM = "places_from",
    PLACE_SAVED = "place_saved",
    EMAIL_ROW = "email_row",
    CACHE_ROW = "cache_row",
    INSERT_LOG = "insert_log",
    LOG_AFTER = "log_after",
    EXPUNGED_AFTER = "expunged_after",
    KEYWORDS = "keywords",
    INSERT_KEYWORD = "insert_keyword",
    CHUNKS = "chunks",
    PUT_CHUNK = "put_chunk",
    SET_FOLDED = "set_folded",
    DROP_FOLDED_LOG = "drop_folded_log",
    NEXT_UNREAPED = "next_unreaped",
    SET_REAPED = "set_reaped",
    PLACE_EMAILS = "place_emails",
    DELETE_PLACE = "delete_place",
    DELETE_EMAIL = "delete_email",
    COPY_GONE = "copy_gone",
    NO_COPIES = "no_copies",
    COUNT_TOMBSTONES = "count_tombstones",
    NTH_TOMBSTONE = "nth_tombstone",
    DROP_TOMBSTONES = "drop_tombstones",
    SET_FLOOR = "set_floor",
    ORPHANS = "orphans",
    NEXT_ORPHAN = "next_orphan",
    LOCK_ORPHAN = "lock_orphan",
    ORPHAN_DONE = "orphan_done",
    DROP_LOG = "drop_log",
    DROP_CHUNKS = "drop_chunks",
    DROP_KEYWORDS = "drop_keywords",
    COUNT_SUBSCRIPTIONS = "count_subscriptions",
    SUBSCRIBE = "subscribe",
    UNSUBSCRIBE = "unsubscribe",
    SUBSCRIPTIONS = "subscriptions",
    ALL_EMAILS = "all_emails",
    ALL_COPIES = "all_copies",
    ALL_PLACES = "all_places",
    BLOBS_BETWEEN = "blobs_between",
    REPOINT = "repoint",
}
