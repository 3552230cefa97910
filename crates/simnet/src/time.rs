//! Virtual time for a program of which a part works on real threads.
//!
//! tokio's paused clock jumps to the next timer as soon as no task can run. It does not know of threads that are not its
//! own: while the store writes, it would jump too. So before each jump everybody else is waited for: `quiet` returns when
//! what was asked of other threads before is done and answered. If an answer wakes a task, the clock does not jump.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;

use base::{Clock, Timestamp};
use tokio::time::Instant;

/// The clock of a simulation.
#[derive(Clone, Debug)]
pub struct Time {
    start: Timestamp,
    /// Milliseconds since.
    passed: Arc<AtomicI64>,
}

impl Time {
    /// It begins then.
    pub fn from(start: Timestamp) -> Self {
        Time { start, passed: Arc::default() }
    }
}

impl Clock for Time {
    fn now(&self) -> Timestamp {
        Timestamp(self.start.0 + self.passed.load(Ordering::Relaxed))
    }
}

/// Runs `all` in virtual time. `quiet` gives what is to be waited for before time may pass: mostly an empty job for a
/// thread that takes one job after another.
pub fn run<Q: Future>(time: &Time, quiet: impl Fn() -> Q + Send + Sync + 'static, all: impl Future<Output = ()>) {
    let (passed, start) = (time.passed.clone(), Arc::new(std::sync::OnceLock::new()));
    let began = start.clone();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .on_thread_park(move || drop(wait(quiet())))
        .on_thread_unpark(move || {
            let elapsed = began.get().map_or(0, |start: &Instant| start.elapsed().as_millis());
            passed.store(elapsed as i64, Ordering::Relaxed);
        })
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        start.set(Instant::now()).expect("once");
        all.await;
    });
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Blocks this thread, which tokio's own ways do not allow within a runtime.
fn wait<T>(future: impl Future<Output = T>) -> T {
    let (mut future, waker) = (pin!(future), Waker::from(Arc::new(Unpark(std::thread::current()))));
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(done) => return done,
            Poll::Pending => std::thread::park(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::sync::mpsc;
    use std::time::Duration;

    use tokio::sync::oneshot;
    use tokio::time::sleep;

    use super::*;

    const DAY: Duration = Duration::from_secs(86_400);

    /// A thread that takes its time for each job, and its jobs.
    fn slow_thread() -> mpsc::Sender<oneshot::Sender<()>> {
        let (jobs, work) = mpsc::channel::<oneshot::Sender<()>>();
        std::thread::spawn(move || {
            for job in work {
                std::thread::sleep(Duration::from_millis(2));
                let _ = job.send(());
            }
        });
        jobs
    }

    fn asked(jobs: &mpsc::Sender<oneshot::Sender<()>>) -> oneshot::Receiver<()> {
        let (done, wait) = oneshot::channel();
        jobs.send(done).unwrap();
        wait
    }

    #[test]
    fn time_stands_still_while_another_thread_works() {
        let (time, jobs) = (Time::from(Timestamp::from_secs(1000)), slow_thread());
        let (clock, fence) = (time.clone(), Mutex::new(jobs.clone()));
        run(&time, move || asked(&fence.lock().unwrap()), async move {
            // Somebody waits for a moment that is soon.
            tokio::spawn(async { sleep(Duration::from_millis(1)).await });
            for _ in 0..10 {
                let before = clock.now();
                asked(&jobs).await.unwrap();
                assert_eq!(clock.now(), before);
                sleep(DAY).await;
                assert_eq!(clock.now().0 - before.0, DAY.as_millis() as i64);
            }
        });
    }
}
