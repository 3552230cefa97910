//! File descriptors: each connection is one, and so is each file that is open.

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// Connections in all, where descriptors allow; one that idles costs little.
const CONNECTIONS: usize = 50_000;
/// With fewer, an organisation of some hundred people with several programs each may find the house full.
const FEW: usize = 2_000;

/// Raises our limit as far as we may, and gives how many descriptors we may have now.
pub fn raise() -> u64 {
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else { return 1024 };
    match setrlimit(Resource::RLIMIT_NOFILE, hard, hard) {
        Ok(()) => hard,
        Err(_) => soft,
    }
}

/// So many connections go with so many descriptors: a quarter is left for packs, the database and mail on its way out.
pub fn connections(descriptors: u64) -> usize {
    usize::try_from(descriptors - descriptors / 4).unwrap_or(usize::MAX).min(CONNECTIONS)
}

/// What to tell an administrator whose server has few.
pub fn few(descriptors: u64) -> Option<String> {
    let connections = connections(descriptors);
    (connections < FEW).then(|| {
        let cure = "LimitNOFILE= of systemd, or ulimit -Hn";
        format!("{descriptors} open files make room for {connections} connections only: raise the limit ({cure})")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_leave_room_for_files() {
        assert_eq!(connections(1024), 768);
        assert_eq!(connections(u64::MAX), CONNECTIONS);
        assert!(few(1024).is_some() && few(4096).is_none());
    }
}
