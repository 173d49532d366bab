//! The `understudy` binary.

use std::process::ExitCode;

fn main() -> ExitCode {
    understudy::cli::run()
}
