//! What `verify` finds in tables that somebody else has written to.

use directory::{Route, verify};
use store::{Sql, Tx, params};

use crate::world::{World, at};

/// What to break, and what `verify` then says.
const BREAKS: &[(&str, &str)] = &[
    ("UPDATE domain SET organisation = 9", "domain without an organisation: x.test"),
    ("UPDATE account SET organisation = 9 WHERE id = 1", "account without an organisation: admin@x.test"),
    ("UPDATE account SET login = 'a@x.test' WHERE id = 1", "login that is no address of its account: a@x.test"),
    ("UPDATE address SET domain = 9 WHERE account = 1", "address in a domain that is gone: admin"),
    ("UPDATE address SET account = NULL WHERE account = 1", "address of no account and no list: admin@x.test"),
    ("UPDATE address SET kind = 7 WHERE account = 1", "address of no account and no list: admin@x.test"),
    ("DELETE FROM account WHERE id = 2", "address of no account and no list: jane@x.test"),
    ("DELETE FROM address_target", "list that leads nowhere: list@x.test"),
    ("DELETE FROM address WHERE kind = 2", "target of a list that is gone: jane@x.test"),
    ("DELETE FROM account WHERE id = 2", "credential of an account that is gone: 2"),
    (
        "UPDATE account SET credential_version = 1 WHERE id = 2",
        "credential numbered above its account's version, account: 2",
    ),
    (
        "UPDATE credential SET kind = 1, secret = (SELECT min(secret) FROM credential)",
        "more than one password, account: 2",
    ),
    ("UPDATE directory_counter SET last = 1 WHERE name = 'account'", "counter behind its table: account"),
    ("DELETE FROM address WHERE account = 2", "target jane@x.test: 550 5.1.1 There is no address jane@x.test"),
    ("UPDATE address_target SET target = 'x'", "target x: "),
    ("UPDATE domain SET catch_all = 'gone@x.test'", "target gone@x.test: 550 5.1.1"),
    ("UPDATE credential SET secret = 'x' WHERE kind = 1", "credential that cannot be read, account: 2"),
    ("UPDATE credential SET secret = 'x' WHERE kind = 2", "credential that cannot be read, account: 2"),
    (
        "UPDATE credential SET secret = 'SCRAM-SHA-256$5000' || substr(secret, 19) WHERE id = 2",
        "app passwords with several salts, account: 2",
    ),
];

#[tokio::test]
async fn every_kind_of_fault_is_found() {
    for w in World::each().await {
        let jane = w.account("jane@x.test").await;
        w.password(jane).await;
        for name in ["one", "two"] {
            w.directory.create_app_password(jane, name, None).await.unwrap();
        }
        w.try_address("list@x.test", Route::Alias(vec![at("jane@x.test")])).await.unwrap();
        assert_eq!(w.job(verify).await.unwrap(), Vec::<String>::new());
        for (statement, fault) in BREAKS {
            // A job that refuses in the end leaves nothing behind: the tables are whole again for the next.
            let job = move |tx: &mut Tx<'_>| -> store::Result<()> {
                assert!(tx.execute(&Sql { name: "break", text: statement }, params![])? > 0, "{statement}");
                let faults = verify(tx)?.join("\n");
                Err(base::Error::new(base::Reply::plain(550, faults)).into())
            };
            let refused = w.job(job).await.unwrap_err();
            let faults = refused.refusal().unwrap_or_else(|| panic!("{statement}: {refused}")).reply().text.to_string();
            let expected = format!("directory: {fault}");
            assert!(faults.lines().any(|f| f.starts_with(&expected)), "{statement}: {faults}");
        }
    }
}
