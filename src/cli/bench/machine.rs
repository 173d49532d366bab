//! Where a measurement was made, read from the system.

use std::path::Path;
use std::time::SystemTime;

use serde::Serialize;

/// The machine and the moment. What the system does not say is `unknown`.
#[derive(Clone, Debug, Serialize)]
pub struct Machine {
    /// Processor model.
    pub cpu: String,
    /// Processors this process may use.
    pub cores: usize,
    /// Memory, megabytes.
    pub memory_mb: Option<u64>,
    /// Kernel release.
    pub kernel: String,
    /// Type of the filesystem that holds the data, where this command chose it.
    pub filesystem: Option<String>,
    /// Version of understudy.
    pub version: String,
    /// Whether this is an optimised build.
    pub optimised: bool,
    /// When, UTC.
    pub date: String,
}

impl Machine {
    /// This machine, now; `data` is the folder that holds the data.
    pub fn look(data: Option<&Path>) -> Machine {
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let unknown = || "unknown".to_owned();
        let kernel = read("/proc/sys/kernel/osrelease").trim().to_owned();
        Machine {
            cpu: value_of(&read("/proc/cpuinfo"), "model name").unwrap_or_else(unknown),
            cores: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
            memory_mb: value_of(&read("/proc/meminfo"), "MemTotal")
                .and_then(|kb| kb.strip_suffix(" kB")?.parse::<u64>().ok())
                .map(|kb| kb / 1024),
            kernel: if kernel.is_empty() { unknown() } else { kernel },
            filesystem: data.map(|data| {
                let data = data.canonicalize().unwrap_or_else(|_| data.to_owned());
                filesystem_of(&read("/proc/self/mountinfo"), &data).unwrap_or_else(unknown)
            }),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            optimised: !cfg!(debug_assertions),
            date: humantime::format_rfc3339_seconds(SystemTime::now()).to_string(),
        }
    }

    /// One paragraph for a person.
    pub fn describe(&self) -> String {
        let memory = self
            .memory_mb
            .map_or_else(String::new, |mb| format!(", {mb} MB"));
        let filesystem = self
            .filesystem
            .as_ref()
            .map_or_else(String::new, |name| format!(", data on {name}"));
        let build = if self.optimised {
            ""
        } else {
            " (debug build: figures mean little)"
        };
        format!(
            "understudy {}{build}, {}\n{}, {} cores{memory}, Linux {}{filesystem}",
            self.version, self.date, self.cpu, self.cores, self.kernel
        )
    }
}

/// The value of the first `key : value` line.
fn value_of(text: &str, key: &str) -> Option<String> {
    let line = text.lines().find(|line| line.starts_with(key))?;
    let (_, value) = line.split_once(':')?;
    Some(value.trim().to_owned())
}

/// The type of the filesystem mounted nearest above `path`, from `/proc/self/mountinfo`. Of two
/// mounts at one place the later hides the earlier.
fn filesystem_of(mountinfo: &str, path: &Path) -> Option<String> {
    let mounts = mountinfo.lines().filter_map(|line| {
        let place = line.split(' ').nth(4)?;
        let (_, after) = line.split_once(" - ")?;
        let kind = after.split(' ').next()?;
        path.starts_with(place)
            .then(|| (place.len(), kind.to_owned()))
    });
    mounts
        .max_by_key(|(length, _)| *length)
        .map(|(_, kind)| kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_and_latest_mount_counts() {
        let mounts = "22 1 8:1 / / rw - ext4 /dev/vda rw\n\
                      30 22 0:5 / /tmp rw - xfs /dev/b rw\n\
                      31 22 0:5 / /tmp rw,x shared:1 - tmpfs tmpfs rw\n\
                      32 22 0:6 / /tmpfoo rw - btrfs none rw\n";
        let kind = |path: &str| filesystem_of(mounts, Path::new(path));
        assert_eq!(kind("/home/x").as_deref(), Some("ext4"));
        assert_eq!(kind("/tmp/x").as_deref(), Some("tmpfs"));
        assert_eq!(kind("/tmpfoo/x").as_deref(), Some("btrfs"));
        assert_eq!(filesystem_of("", Path::new("/")), None);
    }

    #[test]
    fn this_machine_says_something_about_itself() {
        let machine = Machine::look(Some(Path::new("/")));
        assert!(machine.cores >= 1);
        assert!(
            machine.kernel.starts_with(|c: char| c.is_ascii_digit()),
            "{}",
            machine.kernel
        );
        assert!(machine.date.ends_with('Z'));
        assert!(machine.describe().contains(&machine.kernel));
    }
}
