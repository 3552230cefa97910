//! Engines, transactions, migrations and blobs; no table of its own but theirs
