//! A PostgreSQL server of the test's own: Debian's programs, a Unix socket in a temporary directory, fsync as in
//! production. As root it runs as the user `postgres`. A small shell program stands between: it sees this process end,
//! also by SIGKILL, and leaves neither server nor files behind.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use postgres::{Client, NoTls};

const MISSING: &str =
    "PostgreSQL's programs are missing: install the Debian package `postgresql` (apt-get install postgresql)";

/// A running server. Stopped and removed with this value, or with the process.
pub struct Server {
    dir: PathBuf,
    guard: Mutex<Guard>,
}

struct Guard {
    child: Child,
    /// `None` once closed: the sign to end.
    commands: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

impl Server {
    /// Starts one and waits until it answers.
    ///
    /// # Panics
    /// When PostgreSQL is not installed, or does not start: the text says what to do, or holds its log.
    pub fn start() -> Self {
        let programs = programs();
        let dir = std::env::temp_dir().join(format!("postroom-postgres-{}-{}", std::process::id(), crate::next()));
        std::fs::create_dir_all(&dir).unwrap_or_else(|e| panic!("making {}: {e}", dir.display()));
        let mut child =
            guard(&dir, &programs).spawn().unwrap_or_else(|e| panic!("starting {}: {e}", programs.display()));
        let (commands, answers) = (child.stdin.take(), child.stdout.take().expect("a pipe"));
        let guard = Mutex::new(Guard { child, commands, answers: BufReader::new(answers) });
        let server = Server { dir, guard };
        server.answer("starting");
        server.wait();
        server
    }

    /// Where to connect to `database`.
    pub fn url(&self, database: &str) -> String {
        format!("host={} user=postroom dbname={database}", self.dir.display())
    }

    /// The directory of its socket, `.s.PGSQL.5432`.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Stops it by `signal`: `INT` closes connections and writes a checkpoint, `QUIT` is a crash.
    pub fn stop(&self, signal: &str) {
        self.command(&format!("stop {signal}"));
    }

    /// Starts it anew after [`Server::stop`], and waits until it answers.
    pub fn start_again(&self) {
        self.command("start");
        self.wait();
    }

    /// Runs SQL as the administrator, beside the store.
    ///
    /// # Panics
    /// When the server says no.
    pub fn sql(&self, database: &str, text: &str) {
        self.try_sql(database, text).unwrap_or_else(|e| panic!("{text}: {e:?}\n{}", self.log()));
    }

    /// Not on the caller's thread: it may belong to a runtime, which this client must not block.
    fn try_sql(&self, database: &str, text: &str) -> Result<(), postgres::Error> {
        let work = || Client::connect(&self.url(database), NoTls)?.batch_execute(text);
        std::thread::scope(|s| s.spawn(work).join()).expect("the client does not panic")
    }

    fn wait(&self) {
        let deadline = Instant::now() + Duration::from_secs(60);
        while let Err(e) = self.try_sql("postgres", "SELECT 1") {
            assert!(Instant::now() < deadline, "PostgreSQL does not answer: {e:?}\n{}", self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.dir.join("log")).unwrap_or_default()
    }

    fn command(&self, command: &str) {
        let mut guard = self.guard.lock().expect("no panic while a command runs");
        writeln!(guard.commands.as_mut().expect("open"), "{command}").expect("the guard lives");
        drop(guard);
        self.answer(command);
    }

    fn answer(&self, to: &str) {
        let mut line = String::new();
        let read = self.guard.lock().expect("no panic while a command runs").answers.read_line(&mut line);
        assert!(matches!(read, Ok(n) if n > 0), "PostgreSQL: {to} failed\n{}", self.log());
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Ok(guard) = self.guard.get_mut() {
            guard.commands = None;
            let _ = guard.child.wait();
        }
        // Root made it: its own user may not take it out of a directory that is not its own.
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

/// The newest of Debian's installed versions.
fn programs() -> PathBuf {
    let mut found: Vec<(u32, PathBuf)> = std::fs::read_dir("/usr/lib/postgresql")
        .map(|versions| versions.flatten().map(|v| v.path()).collect::<Vec<_>>())
        .unwrap_or_default()
        .into_iter()
        .filter_map(|v| Some((v.file_name()?.to_str()?.parse().ok()?, v.join("bin"))))
        .filter(|(_, bin)| bin.join("initdb").exists() && bin.join("postgres").exists())
        .collect();
    found.sort();
    found.pop().expect(MISSING).1
}

/// The guard, ready to be started; as root, as the user that the package made.
fn guard(dir: &Path, programs: &Path) -> Command {
    use std::os::unix::fs::MetadataExt;
    const SCRIPT: &str = include_str!("guard.sh");
    let root = std::fs::metadata("/proc/self").is_ok_and(|m| m.uid() == 0);
    let mut command = if root {
        let given = Command::new("chown").arg("postgres:").arg(dir).status();
        assert!(given.is_ok_and(|s| s.success()), "there is no user `postgres`: {MISSING}");
        let mut c = Command::new("setpriv");
        c.args(["--reuid=postgres", "--regid=postgres", "--init-groups", "sh"]);
        c
    } else {
        Command::new("sh")
    };
    // A process group of its own: Ctrl-C ends the test process, and the guard sees that.
    command.args(["-c", SCRIPT, "guard"]).arg(dir).arg(programs).current_dir("/").process_group(0);
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    command
}
