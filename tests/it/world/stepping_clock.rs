//! A clock that steps, for a server that was not asked: a library put before the C library's own answers `gettimeofday`,
//! `clock_gettime` and `time` with the time of day and so much more, read from a file that the test writes. Everything that
//! goes by the time of day steps: `TIME`, ids of entries, expiry. The monotonic clock does not.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicI64, Ordering};

use aws_lc_rs::digest;
use tempfile::NamedTempFile;

/// What is put before. The system is asked itself: whoever would be asked in its place is this.
const LIBRARY: &str = r#"
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static const volatile int64_t *step_ms;

__attribute__((constructor)) static void open_step(void) {
  const char *path = getenv("STEP_FILE");
  int file = path ? open(path, O_RDONLY) : -1;
  void *mapped = file >= 0 ? mmap(0, sizeof(int64_t), PROT_READ, MAP_SHARED, file, 0) : MAP_FAILED;
  if (mapped == MAP_FAILED) abort();
  step_ms = mapped;
}

int clock_gettime(clockid_t which, struct timespec *at) {
  int done = (int)syscall(SYS_clock_gettime, which, at);
  int is_time_of_day = which == CLOCK_REALTIME || which == CLOCK_REALTIME_COARSE;
  if (done == 0 && is_time_of_day && step_ms) {
    int64_t ns = (int64_t)at->tv_sec * 1000000000 + at->tv_nsec + *step_ms * 1000000;
    at->tv_sec = ns / 1000000000;
    at->tv_nsec = ns % 1000000000;
  }
  return done;
}

int gettimeofday(struct timeval *at, void *zone) {
  struct timespec now;
  (void)zone;
  clock_gettime(CLOCK_REALTIME, &now);
  at->tv_sec = now.tv_sec;
  at->tv_usec = now.tv_nsec / 1000;
  return 0;
}

time_t time(time_t *at) {
  struct timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  if (at) *at = now.tv_sec;
  return now.tv_sec;
}
"#;

/// A clock in the hands of the test.
pub struct SteppingClock {
    file: NamedTempFile,
    stepped_ms: AtomicI64,
}

impl SteppingClock {
    /// One that goes right.
    pub fn new() -> Self {
        let clock = Self { file: NamedTempFile::new().expect("a file"), stepped_ms: AtomicI64::new(0) };
        clock.step(0);
        clock
    }

    /// The program will go by it.
    pub fn give_to(&self, command: &mut Command) {
        command.env("LD_PRELOAD", library()).env("STEP_FILE", self.file.path());
    }

    /// It steps by so many milliseconds.
    pub fn step(&self, ms: i64) {
        let stepped = self.stepped_ms.fetch_add(ms, Ordering::Relaxed) + ms;
        self.file.as_file().write_all_at(&stepped.to_ne_bytes(), 0).expect("a file takes eight bytes");
    }
}

/// Built by the first test that needs it; the others wait for it.
fn library() -> PathBuf {
    let cache = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let digest = digest::digest(&digest::SHA256, LIBRARY.as_bytes());
    let digest: String = digest.as_ref()[..8].iter().map(|byte| format!("{byte:02x}")).collect();
    // By its text: one from another text is never taken for it.
    let library = cache.join(format!("stepping-clock-{digest}.so"));
    let lock = File::create(cache.join("stepping-clock.lock")).expect("a lock");
    lock.lock().expect("nobody else's lock stays");
    let source = cache.join("stepping-clock.c");
    if !library.exists() {
        std::fs::write(&source, LIBRARY).expect("the build folder takes a file");
        let half_made = cache.join(format!("stepping-clock.{}", std::process::id()));
        let mut compiler = Command::new("cc");
        compiler.args(["-shared", "-fPIC", "-O2", "-o"]).arg(&half_made).arg(&source);
        assert!(compiler.status().expect("a C compiler is installed").success(), "it does not compile");
        std::fs::rename(&half_made, &library).expect("a rename within a folder");
    }
    library
}
