//! Giving back the disk space of deleted mail, every so often and without haste.

use std::time::{Duration, Instant};

use store::Store;
use tokio::sync::watch;
use tokio::time::sleep;

use crate::house::REFERENCES;

/// After each piece of work it rests this many times as long as the work took: nine tenths of the disk are for mail.
const REST: u32 = 9;
/// But never longer at a time: the server may be told to stop.
const LONGEST: Duration = Duration::from_secs(1);

/// Looks for dead space in the packs every so often, until the server stops.
pub async fn run(store: Store, every: Duration, mut stopping: watch::Receiver<bool>) {
    loop {
        tokio::select! {
            _ = stopping.wait_for(|stop| *stop) => return,
            () = sleep(every) => {}
        }
        let (store, stopping) = (store.clone(), stopping.clone());
        match tokio::task::spawn_blocking(move || round(&store, &stopping)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%error, "dead space in packs could not be given back"),
            Err(error) => tracing::error!(%error, "compaction ended"),
        }
    }
}

fn round(store: &Store, stopping: &watch::Receiver<bool>) -> store::Result<()> {
    let mut rested = Instant::now();
    let mut go_on = || {
        std::thread::sleep((rested.elapsed() * REST).min(LONGEST));
        rested = Instant::now();
        !*stopping.borrow()
    };
    let done = store.compact(REFERENCES, &mut go_on)?;
    if done != store::Compacted::default() {
        let (packs, octets, copied) = (done.packs, done.octets, done.copied_octets);
        tracing::info!(packs, octets, copied, "gave back the space of deleted mail");
    }
    Ok(())
}
