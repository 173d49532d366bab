//! A time of day that only moves when it is told to, for any number of processes at once.

use std::fs::File;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;

/// The clock, and the programs that go by it.
pub struct Clock {
    dir: tempfile::TempDir,
    file: File,
    micros: i64,
}

impl Clock {
    /// None where there is no C compiler.
    pub fn at(micros: i64) -> Option<Clock> {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/reference/clock.c");
        let built = Command::new("cc")
            .args(["-shared", "-fPIC", "-O1", "-o"])
            .arg(dir.path().join("clock.so"))
            .arg(source)
            .status()
            .ok()?;
        assert!(built.success(), "clock.c does not compile");
        let file = File::create(dir.path().join("clock")).expect("it is ours");
        let mut clock = Clock { dir, file, micros };
        clock.set(micros);
        Some(clock)
    }

    pub fn micros(&self) -> i64 {
        self.micros
    }

    pub fn millis(&self) -> i64 {
        self.micros / 1000
    }

    /// The time of day from now on.
    pub fn set(&mut self, micros: i64) {
        self.micros = micros;
        let written = self.file.write_all_at(&micros.to_ne_bytes(), 0);
        written.expect("a temporary file");
    }

    /// A program that is `program` under this clock.
    pub fn before(&self, program: &str) -> PathBuf {
        let name = Path::new(program).file_name().expect("a program");
        let script = self.dir.path().join(name);
        let dir = self.dir.path().display();
        let text = format!(
            "#!/bin/sh\nTEST_CLOCK={dir}/clock LD_PRELOAD={dir}/clock.so exec {program} \"$@\"\n"
        );
        std::fs::write(&script, text).expect("it is ours");
        let mode = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(&script, mode).expect("it is ours");
        script
    }
}
