//! The tables, and every statement by its name.

use store::Migrations;

/// The tables of this crate.
pub const MIGRATIONS: Migrations = Migrations { owner: "queue", steps: &[FIRST] };

// `due` never lies behind `expires`: what waits is looked at when its time is over (trap 20).
// `merged` of a segment: 0 where it is small, and may be merged with others; the number of its last part where it was made so; none for
// all others, which thus cost nothing in its index.
const FIRST: &str = "
CREATE TABLE queue_epoch_number (last {int} NOT NULL) {table};
INSERT INTO queue_epoch_number (last) VALUES (0);
CREATE TABLE queue_epoch (epoch {int} PRIMARY KEY, node {int} NOT NULL, name {text} NOT NULL, began {int} NOT NULL,
    until {int} NOT NULL, heir {int} NOT NULL) {table};
CREATE TABLE queue_source_held (source {int} PRIMARY KEY, epoch {int} NOT NULL) {table};
CREATE TABLE queue_told_number (last {int} NOT NULL) {table};
INSERT INTO queue_told_number (last) VALUES (0);
CREATE TABLE queue_told (n {int} PRIMARY KEY, process {int} NOT NULL, kind {int} NOT NULL, id {int} NOT NULL,
    address {bytes} NOT NULL) {table};
CREATE TABLE queue_message (id {int} PRIMARY KEY, blob {int}, prefix {bytes} NOT NULL, octets {int} NOT NULL,
    sender {bytes}, envelope_id {bytes}, ret {int}, flags {int} NOT NULL, account {int}, organisation {int} NOT NULL, stream {int} NOT NULL,
    created {int} NOT NULL, priority {int} NOT NULL, release {int}, deliver_by {int}, total {int} NOT NULL, open {int} NOT NULL,
    message_id {bytes}, kind {int}, reference {bytes}) {table};
CREATE INDEX queue_message_by_blob ON queue_message (blob);
CREATE TABLE queue_delivery (message {int} NOT NULL, number {int} NOT NULL, recipient {bytes} NOT NULL, notify {int},
    original {bytes}, state {int} NOT NULL, epoch {int} NOT NULL, due {int} NOT NULL, expires {int} NOT NULL,
    attempts {int} NOT NULL, uncertain {int} NOT NULL, warned {int} NOT NULL, owed {int} NOT NULL, status {text} NOT NULL,
    reply {bytes} NOT NULL, host {bytes} NOT NULL, class {text} NOT NULL, segment {int} NOT NULL, place {int} NOT NULL,
    stream {int} NOT NULL, organisation {int} NOT NULL, domain {int} NOT NULL, priority {int} NOT NULL,
    PRIMARY KEY (message, number)) {clustered};
CREATE INDEX queue_delivery_due ON queue_delivery (stream, organisation, domain, priority, due) WHERE state = 0;
CREATE INDEX queue_delivery_claimed ON queue_delivery (epoch) WHERE epoch <> 0;
CREATE INDEX queue_delivery_owed ON queue_delivery (message) WHERE owed <> 0;
CREATE TABLE queue_source (id {int} PRIMARY KEY, name {text} NOT NULL UNIQUE, v4 {bytes}, v6 {bytes}, ehlo {text}) {table};
CREATE TABLE queue_source_number (last {int} NOT NULL) {table};
INSERT INTO queue_source_number (last) VALUES (0);
CREATE TABLE queue_pool (name {text} PRIMARY KEY, organisation {int}) {table};
CREATE TABLE queue_pool_source (pool {text} NOT NULL, source {int} NOT NULL, weight {int} NOT NULL,
    PRIMARY KEY (pool, source)) {clustered};
CREATE TABLE queue_pool_stream (pool {text} NOT NULL, stream {int} NOT NULL, PRIMARY KEY (pool, stream)) {clustered};
CREATE TABLE queue_rule (source {int} NOT NULL, site {text} NOT NULL, organisation {int} NOT NULL, name {text} NOT NULL,
    value {text} NOT NULL, PRIMARY KEY (source, site, organisation, name)) {clustered};
CREATE TABLE queue_quiet (stream {int} NOT NULL, organisation {int} NOT NULL, begins {int} NOT NULL, ends {int} NOT NULL,
    zone {int} NOT NULL, PRIMARY KEY (stream, organisation)) {table};
CREATE TABLE queue_verp (stream {int} PRIMARY KEY) {table};
CREATE TABLE queue_stop (kind {int} NOT NULL, name {text} NOT NULL, drains {int} NOT NULL, since {int} NOT NULL,
    PRIMARY KEY (kind, name)) {clustered};
CREATE TABLE queue_stopped (kind {int} NOT NULL, name {text} NOT NULL, since {int} NOT NULL, ended {int} NOT NULL,
    PRIMARY KEY (kind, name, ended)) {clustered};
CREATE TABLE queue_suppression (organisation {int} NOT NULL, address {bytes} NOT NULL, stream {int} NOT NULL,
    reason {text} NOT NULL, note {bytes} NOT NULL, message {int}, number {int}, since {int} NOT NULL, expires {int},
    PRIMARY KEY (organisation, address, stream)) {clustered};
CREATE INDEX queue_suppression_expires ON queue_suppression (expires) WHERE expires IS NOT NULL;
CREATE TABLE queue_strike (organisation {int} NOT NULL, address {bytes} NOT NULL, day {int} NOT NULL, reported {int} NOT NULL,
    PRIMARY KEY (organisation, address, day)) {clustered};
CREATE TABLE queue_receipt (message {int} NOT NULL, number {int} NOT NULL, ended {int} NOT NULL, class {text} NOT NULL,
    stream {int} NOT NULL, account {int}, at {int} NOT NULL, attempts {int} NOT NULL, uncertain {int} NOT NULL,
    segment {int} NOT NULL, place {int} NOT NULL, PRIMARY KEY (message, number)) {clustered};
CREATE INDEX queue_receipt_by_time ON queue_receipt (at);
CREATE TABLE queue_segment_number (last {int} NOT NULL) {table};
INSERT INTO queue_segment_number (last) VALUES (0);
CREATE TABLE queue_segment (id {int} PRIMARY KEY, at {int} NOT NULL, merged {int}, parts {bytes}, recipients {bytes} NOT NULL,
    message_ids {bytes} NOT NULL, heads {bytes} NOT NULL) {table};
CREATE INDEX queue_segment_by_time ON queue_segment (at);
CREATE INDEX queue_segment_merged ON queue_segment (merged, id) WHERE merged IS NOT NULL;
CREATE TABLE queue_dialogue (segment {int} PRIMARY KEY, at {int} NOT NULL, records {bytes} NOT NULL) {table};
CREATE INDEX queue_dialogue_by_time ON queue_dialogue (at);
CREATE TABLE queue_event (message {int} NOT NULL, number {int} NOT NULL, n {int} NOT NULL, at {int} NOT NULL,
    kind {int} NOT NULL, class {text} NOT NULL, detail {bytes} NOT NULL, PRIMARY KEY (message, number, n)) {clustered};
CREATE TABLE queue_log_number (last {int} NOT NULL) {table};
INSERT INTO queue_log_number (last) VALUES (0);
CREATE TABLE queue_log (position {int} PRIMARY KEY, at {int} NOT NULL, segment {int} NOT NULL, message {int} NOT NULL,
    number {int} NOT NULL, n {int} NOT NULL, marks {bytes}) {table};
CREATE TABLE queue_reader (name {text} PRIMARY KEY, holder {int} NOT NULL, position {int} NOT NULL) {table};
CREATE TABLE queue_webhook (id {int} PRIMARY KEY, url {text} NOT NULL, organisation {int}, stream {int}, types {text} NOT NULL,
    secret {bytes} NOT NULL, former {bytes}, former_until {int}, state {int} NOT NULL, made {int} NOT NULL,
    generation {int} NOT NULL, holder {int} NOT NULL, position {int} NOT NULL, taken {int} NOT NULL, given_up {int} NOT NULL,
    lost {int} NOT NULL, last_taken {int}, failing {int}, why {bytes} NOT NULL) {table};
CREATE TABLE queue_webhook_waiting (webhook {int} NOT NULL, position {int} NOT NULL, place {int} NOT NULL, tries {int} NOT NULL,
    due {int} NOT NULL, since {int} NOT NULL, PRIMARY KEY (webhook, position, place)) {clustered};
CREATE TABLE queue_cap (source {int} NOT NULL, share {text} NOT NULL, days {text} NOT NULL, began {int} NOT NULL,
    PRIMARY KEY (source, share)) {clustered};
CREATE TABLE queue_delivered (source {int} NOT NULL, site {text} NOT NULL, day {int} NOT NULL, sent {int} NOT NULL,
    tried {int} NOT NULL, ended {int} NOT NULL, bounced {int} NOT NULL, complained {int} NOT NULL, blocked {int} NOT NULL,
    deferred {int} NOT NULL, PRIMARY KEY (source, site, day)) {clustered};
CREATE TABLE queue_judged (source {int} NOT NULL, site {text} NOT NULL, day {int} NOT NULL, course {int} NOT NULL,
    measure {int} NOT NULL, count {int} NOT NULL, among {int} NOT NULL, days {int} NOT NULL, behind {int} NOT NULL,
    stopped {int} NOT NULL, PRIMARY KEY (source, site)) {clustered};
CREATE TABLE queue_judged_to (source {int} PRIMARY KEY, day {int} NOT NULL) {table};
CREATE TABLE queue_used (source {int} NOT NULL, node {int} NOT NULL, site {int} NOT NULL, organisation {int} NOT NULL,
    what {text} NOT NULL, until {int} NOT NULL, name {text} NOT NULL, PRIMARY KEY (source, node, site, organisation, what)) {clustered};
";

store::statements! { include_str!("../sql/queue.sql");
    NEXT_EPOCH = "next_epoch",
    BEGIN_EPOCH = "begin_epoch",
    EPOCHS_BEFORE = "epochs_before",
    END_EPOCH = "end_epoch",
    LIVES = "lives",
    RENEW = "renew",
    STANDS = "stands",
    INHERIT = "inherit",
    INHERIT_LAPSED = "inherit_lapsed",
    INHERITS = "inherits",
    HOLD_SOURCE = "hold_source",
    HELD_SOURCES = "held_sources",
    LET_SOURCE_GO = "let_source_go",
    LET_SOURCES_GO = "let_sources_go",
    NEXT_TOLD = "next_told",
    LAST_TOLD = "last_told",
    TELL = "tell",
    TOLD = "told",
    FORGET_TOLD = "forget_told",
    LAST_MESSAGE = "last_message",
    MESSAGE_AFTER = "message_after",
    GROUPS_BETWEEN = "groups_between",
    CLAIMS_OF = "claims_of",
    RECOVER = "recover",
    POINT = "point",
    RECOVER_CANCELLED = "recover_cancelled",
    OWING = "owing",
    INSERT_MESSAGE = "insert_message",
    INSERT_DELIVERY = "insert_delivery",
    DUE = "due",
    CLAIM = "claim",
    HOLD = "hold",
    NEXT_DUE = "next_due",
    SCHEDULED = "scheduled",
    LATER = "later",
    BRING_FORWARD = "bring_forward",
    GROUPS_OF_MESSAGE = "groups_of_message",
    WAITING = "waiting",
    HAS_MAIL = "has_mail",
    REMOVE_CLAIMED = "remove_claimed",
    SETTLE = "settle",
    RELEASE = "release",
    PROLONG = "prolong",
    TOUCH = "touch",
    IS_CLAIMED = "is_claimed",
    CLOSE = "close",
    REMOVE_MESSAGE = "remove_message",
    REMOVE_DELIVERIES = "remove_deliveries",
    REPORTED = "reported",
    MESSAGE = "message",
    DELIVERIES_BETWEEN = "deliveries_between",
    DELIVERIES = "deliveries",
    ACCEPTED = "accepted",
    PAGE = "page",
    DELIVERY_BEHIND = "delivery_behind",
    SOUGHT = "sought",
    DELIVERY_BEFORE = "delivery_before",
    RECIPIENTS_BETWEEN = "recipients_between",
    RETRY = "retry",
    CANCEL = "cancel",
    CANCEL_CLAIMED = "cancel_claimed",
    CANCEL_REPORTS = "cancel_reports",
    TOTAL = "total",
    EXISTS = "exists",
    BLOBS_BETWEEN = "blobs_between",
    BLOBS_OF_PACK = "blobs_of_pack",
    REPOINT = "repoint",
    MESSAGE_BLOB = "message_blob",
    SUPPRESS = "suppress",
    UNSUPPRESS = "unsuppress",
    SUPPRESSED = "suppressed",
    IS_SUPPRESSED = "is_suppressed",
    ANY_SUPPRESSED = "any_suppressed",
    SUPPRESSIONS = "suppressions",
    FORGET_SUPPRESSIONS = "forget_suppressions",
    STRIKE = "strike",
    STRIKES = "strikes",
    FORGET_STRIKES = "forget_strikes",
    FORGET_SUPPRESSIONS_OF = "forget_suppressions_of",
    FORGET_STRIKES_OF = "forget_strikes_of",
    INSERT_RECEIPT = "insert_receipt",
    INSERT_SEGMENT = "insert_segment",
    INSERT_DIALOGUE = "insert_dialogue",
    LEAST_SEGMENT = "least_segment",
    RECEIPT = "receipt",
    OPEN = "open",
    ANY_OPEN = "any_open",
    RECEIPTS_OF_MESSAGE = "receipts_of_message",
    RECEIPTS_BEFORE = "receipts_before",
    REVISE_RECEIPT = "revise_receipt",
    HEADS = "heads",
    MERGED_HEADS = "merged_heads",
    DIALOGUES = "dialogues",
    MERGED_DIALOGUES = "merged_dialogues",
    SMALL_SEGMENTS = "small_segments",
    MERGED_BEHIND = "merged_behind",
    NOT_SMALL_BETWEEN = "not_small_between",
    SMALL_RECORDS = "small_records",
    REMOVE_SMALL_DIALOGUES = "remove_small_dialogues",
    REMOVE_SMALL_SEGMENTS = "remove_small_segments",
    LEAVE_SMALL = "leave_small",
    TRACES_OF_RECIPIENTS = "traces_of_recipients",
    TRACES_OF_MESSAGE_IDS = "traces_of_message_ids",
    TRACES_LATELY = "traces_lately",
    TRACES_BEHIND = "traces_behind",
    IN_HAND_WITH = "in_hand_with",
    OTHER_OF_MESSAGE = "other_of_message",
    INSERT_EVENT = "insert_event",
    COUNT_EVENTS = "count_events",
    EVENTS = "events",
    EVENT = "event",
    NEXT_POSITION = "next_position",
    LAST_POSITION = "last_position",
    APPEND = "append",
    LOG = "log",
    FORGET_LOG = "forget_log",
    HOLD_READER = "hold_reader",
    NOTE_READER = "note_reader",
    FORGET_DIALOGUES = "forget_dialogues",
    FORGET_EVENTS = "forget_events",
    FORGET_RECEIPTS = "forget_receipts",
    FORGET_SEGMENTS = "forget_segments",
    VERIFY_MESSAGES = "verify_messages",
    VERIFY_SENDERS = "verify_senders",
    VERIFY_RECIPIENTS = "verify_recipients",
    VERIFY_STRAYS = "verify_strays",
    VERIFY_DELIVERIES = "verify_deliveries",
    VERIFY_MERGED = "verify_merged",
}
