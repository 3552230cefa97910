//! SQL texts: written once, kept in `.sql` files by name, the same for both engines.

/// One statement, in the dialect both engines share: `?1` for parameters (and no other question mark), `BIGINT` values,
/// bytes for what comes from mail. PostgreSQL's form is derived when it is prepared.
///
/// PostgreSQL infers each parameter's type from the text, and refuses what is none of ours when the statement is
/// prepared: where nothing else says so, write `CAST(?1 AS BIGINT)`. A sum is NUMERIC there: `CAST(sum(size) AS BIGINT)`.
/// `/*postgres FOR UPDATE */` is there for PostgreSQL alone.
#[derive(Clone, Copy, Debug)]
pub struct Sql {
    /// For errors and the test that prepares every statement.
    pub name: &'static str,
    /// The text, without a final semicolon.
    pub text: &'static str,
}

impl Sql {
    /// Picks the statement `name` out of a file where each begins with a line `-- name: NAME`, and further comment lines
    /// say why it is written so. Runs at compile time: a name that is missing does not compile.
    #[allow(clippy::panic)]
    pub const fn named(file: &'static str, name: &'static str) -> Sql {
        let bytes = file.as_bytes();
        let mut at = 0;
        while at < bytes.len() {
            let line = line_end(bytes, at);
            if is_header(bytes, at, line, name.as_bytes()) {
                let mut start = line;
                // What explains the statement is not part of it.
                while start < bytes.len() && (starts_with(bytes, start, b"--") || bytes[start] == b'\n') {
                    start = line_end(bytes, start);
                }
                let mut end = start;
                while end < bytes.len() && bytes[end] != b';' {
                    end += 1;
                }
                let (_, rest) = file.split_at(start);
                let (text, _) = rest.split_at(end - start);
                return Sql { name, text };
            }
            at = line;
        }
        panic!("no statement of that name in the file")
    }

    /// The text as PostgreSQL wants it: `$1` for `?1`, and what SQLite takes for a comment.
    pub fn postgres(&self) -> String {
        self.text.replace('?', "$").replace("/*postgres ", "").replace(" */", "")
    }
}

/// Just past the newline that ends the line at `at`.
const fn line_end(bytes: &[u8], at: usize) -> usize {
    let mut i = at;
    while i < bytes.len() && bytes[i] != b'\n' {
        i += 1;
    }
    if i < bytes.len() { i + 1 } else { i }
}

const fn starts_with(bytes: &[u8], at: usize, with: &[u8]) -> bool {
    if at + with.len() > bytes.len() {
        return false;
    }
    let mut i = 0;
    while i < with.len() {
        if bytes[at + i] != with[i] {
            return false;
        }
        i += 1;
    }
    true
}

const fn is_header(bytes: &[u8], at: usize, line: usize, name: &[u8]) -> bool {
    const MARK: &[u8] = b"-- name: ";
    starts_with(bytes, at, MARK)
        && starts_with(bytes, at + MARK.len(), name)
        && at + MARK.len() + name.len() + 1 == line
}

/// Declares the statements of a crate: a constant each, and `ALL` for the test that prepares them on both engines.
///
/// ```
/// store::statements! { "-- name: one\nSELECT 1;\n"; ONE = "one" }
/// assert_eq!(ONE.text, "SELECT 1");
/// assert_eq!(ALL.len(), 1);
/// ```
#[macro_export]
macro_rules! statements {
    ($file:expr; $($constant:ident = $name:literal),+ $(,)?) => {
        $(pub(crate) const $constant: $crate::Sql = $crate::Sql::named($file, $name);)+
        /// Every statement of this file.
        pub const ALL: &[$crate::Sql] = &[$($constant),+];
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "-- what this file is for\n\n-- name: a\n-- why\nSELECT ?1;\n\n-- name: ab\nDELETE FROM t\nWHERE k = ?1 AND j = ?2;\n";

    #[test]
    fn statements_are_found_by_their_whole_name() {
        const A: Sql = Sql::named(FILE, "a");
        const AB: Sql = Sql::named(FILE, "ab");
        assert_eq!(A.text, "SELECT ?1");
        let locked = Sql { name: "", text: "SELECT ?1 /*postgres FOR UPDATE SKIP LOCKED */" };
        assert_eq!(locked.postgres(), "SELECT $1 FOR UPDATE SKIP LOCKED");
        assert_eq!(AB.postgres(), "DELETE FROM t\nWHERE k = $1 AND j = $2");
    }
}
