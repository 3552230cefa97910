//! The SQL of this crate, by name; the texts are in `sql/*.sql`, each with its reason.

pub(crate) mod organisation {
    store::statements! { include_str!("../sql/organisation.sql");
        NEXT_ID = "next_id",
        ADD = "organisation_add",
        LIST = "organisation_list",
        GET = "organisation_get",
        RENAME = "organisation_rename",
        IN_USE = "organisation_in_use",
        REMOVE = "organisation_remove",
    }
}

pub(crate) mod domain {
    store::statements! { include_str!("../sql/domain.sql");
        ADD = "domain_add",
        LIST = "domain_list",
        FIRST = "domain_first",
        BY_NAME = "domain_by_name",
        BY_ID = "domain_by_id",
        CHANGE = "domain_change",
        IN_USE = "domain_in_use",
        REMOVE = "domain_remove",
        WITH_CATCH_ALL = "domain_with_catch_all",
    }
}

pub(crate) mod account {
    store::statements! { include_str!("../sql/account.sql");
        ADD = "account_add",
        LIST = "account_list",
        BY_ID = "account_by_id",
        BY_LOGIN = "account_by_login",
        CHANGE = "account_change",
        REMOVE = "account_remove",
        NEXT_VERSION = "account_next_version",
        POSTMASTER = "account_postmaster",
        SENT_SINCE = "sent_since",
        SENT_ADD = "sent_add",
        SENT_REMOVE = "sent_remove",
    }
}

pub(crate) mod address {
    store::statements! { include_str!("../sql/address.sql");
        ADD = "address_add",
        GET = "address_get",
        LIST = "address_list",
        OF_ACCOUNT = "address_of_account",
        CHANGE = "address_change",
        REMOVE = "address_remove",
        TARGET_ADD = "target_add",
        TARGET_LIST = "target_list",
        TARGET_CLEAR = "target_clear",
        TARGET_OF = "target_of",
    }
}

pub(crate) mod credential {
    store::statements! { include_str!("../sql/credential.sql");
        ADD = "credential_add",
        LIST = "credential_list",
        SECRETS = "credential_secrets",
        REMOVE = "credential_remove",
        REMOVE_KIND = "credential_remove_kind",
        REMOVE_ALL = "credential_remove_all",
        USED = "credential_used",
        SIGN_IN_ACCOUNT = "sign_in_account",
        SECRET_GET = "secret_get",
        SECRET_ADD = "secret_add",
    }
}

pub(crate) mod verify {
    store::statements! { include_str!("../sql/verify.sql");
        DOMAIN_OWNER = "verify_domain_owner",
        ACCOUNT_OWNER = "verify_account_owner",
        LOGIN = "verify_login",
        ADDRESS_DOMAIN = "verify_address_domain",
        ADDRESS_ACCOUNT = "verify_address_account",
        EMPTY_LIST = "verify_empty_list",
        STRAY_TARGET = "verify_stray_target",
        CREDENTIAL_ACCOUNT = "verify_credential_account",
        CREDENTIAL_NUMBER = "verify_credential_number",
        ONE_PASSWORD = "verify_one_password",
        COUNTER = "verify_counter",
        TARGETS = "verify_targets",
        SECRETS = "verify_secrets",
    }
}

/// Every statement of this crate, for the test that prepares them on both engines.
pub fn statements() -> impl Iterator<Item = &'static store::Sql> {
    [organisation::ALL, domain::ALL, account::ALL, address::ALL, credential::ALL, verify::ALL].into_iter().flatten()
}
