//! Root's powers are given up before the first octet from the network is read: as root the server only opens its ports.

use std::ffi::CString;

use nix::unistd::{Gid, Uid, User, chown, geteuid, initgroups, setresgid, setresuid, setuid};

use crate::config::Config;

/// The configured user, if there is one.
///
/// # Errors
/// In words for the administrator: the machine knows no such user, or it is root.
pub fn user(config: &Config) -> Result<Option<User>, String> {
    let Some(name) = &config.user else { return Ok(None) };
    let said = |e: &dyn std::fmt::Display| config.at(&["user"], format!("user = {name:?}: {e}"));
    let found = User::from_name(name).map_err(|e| said(&e))?;
    let user = found.ok_or_else(|| said(&"there is no such user on this machine (useradd --system makes one)"))?;
    if user.uid.is_root() {
        return Err(said(&"that is root; leave it out to stay root"));
    }
    Ok(Some(user))
}

/// Becomes the configured user for good, if there is one and we are root. The data directory, where it is missing, is
/// made and becomes that user's.
///
/// # Errors
/// In words for the administrator; the process must not go on then.
pub fn give_up(config: &Config) -> Result<(), String> {
    let Some(user) = user(config)? else { return Ok(()) };
    let name = &user.name;
    let said = |e: &dyn std::fmt::Display| config.at(&["user"], format!("user = {name:?}: {e}"));
    if !geteuid().is_root() {
        return if geteuid() == user.uid { Ok(()) } else { Err(said(&"only root can become another user")) };
    }
    if !config.data.exists() {
        store::make_private_dir(&config.data).map_err(|e| e.to_string())?;
        chown(&config.data, Some(user.uid), Some(user.gid)).map_err(|e| said(&e))?;
    }
    become_user(&user).map_err(|e| said(&e))?;
    std::fs::read_dir(&config.data).map(drop).map_err(|e| {
        let data = config.data.display();
        format!("{data}: {e}: it must be {name}'s (chown -R {name} {data}), and {name} must be let into all above it")
    })
}

/// The groups first: without root they cannot be changed any more.
fn become_user(user: &User) -> Result<(), String> {
    let (User { uid, gid, .. }, name) = (user, CString::new(user.name.as_str()).map_err(|e| e.to_string())?);
    let change = || -> nix::Result<()> {
        initgroups(&name, *gid)?;
        setresgid(*gid, *gid, *gid)?;
        setresuid(*uid, *uid, *uid)
    };
    change().map_err(|e| e.to_string())?;
    // A kernel that says yes and does nothing must not go unnoticed.
    if setuid(Uid::from_raw(0)).is_ok() || geteuid() != *uid || Gid::effective() != *gid {
        return Err("root's powers would not go away".into());
    }
    Ok(())
}

/// Whether the process can do whatever it likes.
pub fn is_root() -> bool {
    geteuid().is_root()
}
