//! The server's threads, and how the system shares its cores out among them.

use std::future::Future;
use std::thread::available_parallelism;
use std::time::Duration;
use std::{fs, io, thread};

use thread_priority::{
    NormalThreadSchedulePolicy, ThreadPriority, ThreadSchedulePolicy, set_thread_priority_and_policy, thread_native_id,
};
use tokio::runtime;
use tokio::sync::oneshot;

/// Niceness 0 as the crate counts it, which also sets that.
const USUAL: u8 = 48;
/// How long the end waits for what was left behind.
const REST: Duration = Duration::from_secs(1);

/// From now on this thread, and those that it starts, take no core from what runs on it when they wake up (`SCHED_BATCH` of sched(7)):
/// they wait until it sleeps or has had its turn, a few milliseconds at most, and find more to do then. A mail passes half a dozen
/// threads, here and in the programs that it comes from; each would stop the one that just wakes it. Where a core is idle nothing
/// waits.
///
/// Who has given the server another niceness, or a policy, has his reasons: it stays.
pub fn begin() {
    if niceness() != Some(0) || policy() != Some(0) {
        return;
    }
    let batch = ThreadSchedulePolicy::Normal(NormalThreadSchedulePolicy::Batch);
    let set =
        ThreadPriority::try_from(USUAL).map(|usual| set_thread_priority_and_policy(thread_native_id(), usual, batch));
    if !matches!(set, Ok(Ok(()))) {
        // A sandbox may forbid it: it is no more than speed.
        tracing::debug!(outcome = ?set, "the threads keep their scheduling policy");
    }
}

/// Runs `work` on threads of its own, half as many as there are cores, with sockets and timers of their own. What it gives ends
/// with it, and does not end it.
///
/// All threads of a runtime wait at one place for what comes from the network. Where the one that is woken must wait for a core,
/// nobody hears anything, though another core may be idle: on two cores, programs that talk to one half of the server kept the
/// other half from its work.
///
/// # Errors
/// The system gives no thread. What it gives ends with an error in words when there are no more threads or no sockets, and when the
/// work panicked.
pub fn apart(
    name: &'static str,
    work: impl Future<Output = ()> + Send + 'static,
) -> io::Result<impl Future<Output = Result<(), String>>> {
    let (done, over) = oneshot::channel();
    // Built there, as a runtime must not be dropped where others wait.
    thread::Builder::new().name(name.into()).spawn(move || {
        let threads = available_parallelism().map_or(1, |cores| cores.get() / 2).max(1);
        let mut runtime = runtime::Builder::new_multi_thread();
        let outcome = match runtime.worker_threads(threads).thread_name(name).enable_all().build() {
            Ok(runtime) => {
                // By a worker: who waits here is none.
                let work = runtime.spawn(work);
                let outcome = runtime.block_on(work).map_err(|e| e.to_string());
                // What it left behind is ended.
                runtime.shutdown_timeout(REST);
                outcome
            }
            Err(e) => Err(format!("starting threads: {e}")),
        };
        let _ = done.send(outcome);
    })?;
    Ok(async { over.await.unwrap_or_else(|_| Err("there are no threads for it".into())) })
}

fn niceness() -> Option<i64> {
    field(19)
}

/// 0: what all have who asked for nothing.
fn policy() -> Option<i64> {
    field(41)
}

/// A field of proc_pid_stat(5), by its number there, of this thread.
fn field(number: usize) -> Option<i64> {
    let stat = fs::read_to_string("/proc/thread-self/stat").ok()?;
    // The second is the thread's name in parentheses, with whatever is in it.
    let (_, behind) = stat.rsplit_once(')')?;
    behind.split_whitespace().nth(number - 3)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const BATCH: i64 = 3;

    #[test]
    fn threads_are_of_batch_and_as_nice_as_before() {
        let seen = thread::spawn(|| {
            let before = (niceness(), policy());
            begin();
            (before, thread::spawn(|| (niceness(), policy())).join().unwrap())
        });
        let (before, after) = seen.join().unwrap();
        if before != (Some(0), Some(0)) {
            eprintln!("only that nothing changes is tried: these tests have another niceness or policy themselves");
            return assert_eq!(before, after);
        }
        assert_eq!(after, (Some(0), Some(BATCH)));
    }

    #[tokio::test]
    async fn what_is_apart_runs_on_threads_of_its_own() {
        let (tell, told) = oneshot::channel();
        let over = apart("apart", async {
            // What it starts stays with it.
            let name = tokio::spawn(async { thread::current().name().map(str::to_owned) }).await;
            let _ = tell.send(name.unwrap());
        });
        assert_eq!(over.unwrap().await, Ok(()));
        assert_eq!(told.await.unwrap().as_deref(), Some("apart"));
    }

    #[tokio::test]
    async fn what_fails_apart_is_over_with_an_error() {
        let over = apart("apart", async { panic!("as it should") }).unwrap();
        assert!(over.await.unwrap_err().contains("as it should"));
    }
}
