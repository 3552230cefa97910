//! Organisations, domains, accounts, addresses, credentials
