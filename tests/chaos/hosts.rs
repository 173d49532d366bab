//! Three hosts of our own on this machine: each a network namespace on one switch, with a disk of
//! its own, so that networks and disks can fail for real.
//!
//! All of it lives inside private network and mount namespaces that the test process was started
//! in ([`enter`]): nothing is visible outside, and all of it is gone with the last process, however
//! that ends. A host's network is that of a child (`cat`, which ends with our end of its pipe).
//!
//! The disk is an ext4 file system on a loop device, whose file lies thin on a small tmpfs:
//! a ballast file on the ext4 fills the disk; shrunk to nothing, the device fails with EIO; a block
//! throttle makes it slow.

use std::fs;
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::cluster::IDS;

/// The hosts' network: addresses set aside for benchmarks, in namespaces of our own.
const NETWORK: &str = "198.18.0";
/// Where the clients are.
const SWITCH: u32 = 254;
const DISK_BYTES: u64 = 768 << 20;
const INSIDE: &str = "UNDERSTUDY_CHAOS_INSIDE";
const THROTTLES: &str = "/sys/fs/cgroup/blkio";

/// What is missing here to make hosts, if anything.
pub fn missing() -> Option<String> {
    if !rustix::process::geteuid().is_root() {
        return Some("not root".to_owned());
    }
    for tool in [
        "ip",
        "nft",
        "ss",
        "nsenter",
        "unshare",
        "mkfs.ext4",
        "e2fsck",
        "losetup",
        "fsfreeze",
        "findmnt",
        "mount",
    ] {
        let found = Command::new("sh")
            .args(["-c", &format!("command -v {tool}")])
            .output();
        if !found.is_ok_and(|found| found.status.success()) {
            return Some(format!("{tool} is not installed"));
        }
    }
    let private = Command::new("unshare")
        .args(["--net", "--mount", "true"])
        .output();
    match private {
        Ok(done) if done.status.success() => None,
        Ok(done) => Some(String::from_utf8_lossy(&done.stderr).into_owned()),
        Err(error) => Some(error.to_string()),
    }
}

/// Whether slow disks can be made here.
pub fn can_throttle() -> bool {
    Path::new(THROTTLES)
        .join("blkio.throttle.write_iops_device")
        .exists()
        || fs::read_to_string("/proc/self/cgroup").is_ok_and(|text| text.contains(":blkio:"))
}

/// Runs this test once more inside namespaces of its own and waits for it; `None` when this *is*
/// that run, and the caller is to go on.
pub fn enter(test: &str) -> Option<bool> {
    if std::env::var_os(INSIDE).is_some() {
        return None;
    }
    let this = std::env::current_exe().expect("this test's binary");
    let status = Command::new("unshare")
        .args(["--net", "--mount", "--propagation", "private", "--"])
        .arg(this)
        .args(["--exact", test, "--nocapture", "--test-threads", "1"])
        .env(INSIDE, "1")
        .status();
    Some(status.expect("unshare runs").success())
}

/// Runs a command to its end. Panics with its words when it fails.
fn run(command: &mut Command) -> String {
    let done = command.stdin(Stdio::null()).output();
    let done = done.unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let words = String::from_utf8_lossy(&done.stderr);
    assert!(
        done.status.success(),
        "{command:?}: {}: {words}",
        done.status
    );
    String::from_utf8_lossy(&done.stdout).trim().to_owned()
}

fn sh(line: &str) -> String {
    run(Command::new("sh").args(["-ec", line]))
}

struct Host {
    holder: Child,
    disk: Disk,
}

/// The hosts, numbered as the nodes.
pub struct Hosts {
    hosts: Vec<Host>,
}

impl Hosts {
    /// Makes the switch and the hosts, their disks below `folder`.
    pub fn create(folder: &Path) -> Hosts {
        sh("ip link set lo up; ip link show br0 >/dev/null 2>&1 || {
            ip link add br0 type bridge forward_delay 0 stp_state 0
            ip addr add 198.18.0.254/24 dev br0; ip link set br0 up; }");
        let hosts = IDS.into_iter().map(|id| Host {
            holder: hold(id),
            disk: Disk::create(folder, id),
        });
        Hosts {
            hosts: hosts.collect(),
        }
    }

    fn host(&self, id: u32) -> &Host {
        &self.hosts[id as usize - 1]
    }

    pub fn disk(&self, id: u32) -> &Disk {
        &self.host(id).disk
    }

    /// Client, peer and HTTP address.
    pub fn addresses(&self, id: u32) -> [SocketAddr; 3] {
        let port = |port: u16| {
            format!("{NETWORK}.{id}:{port}")
                .parse()
                .expect("an address")
        };
        [port(7379), port(7380), port(7381)]
    }

    pub fn data_dir(&self, id: u32) -> PathBuf {
        self.disk(id).mount.join("data")
    }

    /// A command that runs on this host.
    pub fn command_on(&self, id: u32, program: &str) -> Command {
        on(self.host(id).holder.id(), program)
    }

    /// Puts a process behind its host's throttle.
    pub fn has_started(&self, id: u32, pid: u32) {
        self.disk(id).has_started(pid);
    }

    /// Plugs or pulls the host's cable.
    pub fn link(&self, id: u32, up: bool) {
        let state = if up { "up" } else { "down" };
        run(Command::new("ip").args(["link", "set", &format!("v{id}"), state]));
    }

    /// Adds filter rules on a host; `PEERS` in a rule stands for the other nodes' addresses.
    pub fn filter(&self, id: u32, rules: &[String]) {
        let others: Vec<String> = IDS
            .into_iter()
            .filter(|other| *other != id)
            .map(address)
            .collect();
        let peers = format!("{{ {} }}", others.join(", "));
        let mut script = String::new();
        for rule in rules {
            script += &format!("add rule inet chaos {}\n", rule.replace("PEERS", &peers));
        }
        self.nft(id, &script);
    }

    /// Takes all filter rules of a host away.
    pub fn unfilter(&self, id: u32) {
        self.nft(
            id,
            "flush chain inet chaos in\nflush chain inet chaos out\n",
        );
    }

    fn nft(&self, id: u32, script: &str) {
        let mut command = self.command_on(id, "nft");
        let child = command.args(["-f", "-"]).stdin(Stdio::piped()).spawn();
        let mut child = child.expect("nft runs");
        let mut input = child.stdin.take().expect("it was piped");
        input.write_all(script.as_bytes()).expect("nft reads");
        drop(input);
        assert!(
            child.wait().expect("our child").success(),
            "nft on host {id}: {script}"
        );
    }

    /// Resets connections of a host: all, or those with other nodes.
    pub fn reset(&self, id: u32, only_peers: bool) {
        let others = IDS.into_iter().filter(|other| *other != id);
        let with: Vec<String> = if only_peers {
            others
                .map(|other| format!("dst {}", address(other)))
                .collect()
        } else {
            let all = others.chain([SWITCH]);
            all.map(|other| format!("dst {}", address(other))).collect()
        };
        for with in with {
            let mut command = self.command_on(id, "ss");
            let words: Vec<&str> = with.split(' ').collect();
            run(command.args(["-K", "-t", "state", "connected"]).args(words));
        }
    }
}

impl Drop for Hosts {
    fn drop(&mut self) {
        for (host, id) in self.hosts.iter_mut().zip(IDS) {
            // All of it goes with our namespaces anyway; this makes room for the next cluster.
            let link = format!("v{id}");
            let _ = Command::new("ip").args(["link", "del", &link]).output();
            let _ = host.holder.kill();
            let _ = host.holder.wait();
        }
    }
}

/// A host's address.
pub fn address(id: u32) -> String {
    format!("{NETWORK}.{id}")
}

fn on(holder: u32, program: &str) -> Command {
    let mut command = Command::new("nsenter");
    command
        .arg(format!("--net=/proc/{holder}/ns/net"))
        .arg("--")
        .arg(program);
    command
}

/// Starts the child that a host's network lives by, and connects it to the switch.
fn hold(id: u32) -> Child {
    let mut command = Command::new("unshare");
    let command = command.args(["--net", "cat"]);
    let holder = command.stdin(Stdio::piped()).stdout(Stdio::null()).spawn();
    let holder = holder.expect("unshare runs");
    let pid = holder.id();
    let ours = fs::read_link("/proc/self/ns/net").expect("a namespace");
    let deadline = Instant::now() + Duration::from_secs(5);
    while fs::read_link(format!("/proc/{pid}/ns/net")).is_ok_and(|theirs| theirs == ours) {
        assert!(Instant::now() < deadline, "no namespace for host {id}");
        std::thread::yield_now();
    }
    let own = address(id);
    sh(&format!(
        "ip link add v{id} type veth peer name eth0 netns {pid}
         ip link set v{id} master br0 up"
    ));
    let script = format!(
        "ip link set lo up; ip addr add {own}/24 dev eth0; ip link set eth0 up
         nft add table inet chaos
         nft 'add chain inet chaos in {{ type filter hook input priority 0; }}'
         nft 'add chain inet chaos out {{ type filter hook output priority 0; }}'"
    );
    run(on(pid, "sh").args(["-ec", &script]));
    holder
}

/// A disk that can fill, slow down and fail.
pub struct Disk {
    /// Where the tmpfs with the device's file is.
    store: PathBuf,
    /// Where the file system is.
    mount: PathBuf,
    throttle: Option<PathBuf>,
}

impl Disk {
    fn create(folder: &Path, id: u32) -> Disk {
        let (store, mount) = (
            folder.join(format!("store-{id}")),
            folder.join(format!("disk-{id}")),
        );
        fs::create_dir_all(&store)
            .and_then(|()| fs::create_dir_all(&mount))
            .expect("ours");
        // Room for a copy, see `fail`.
        let bytes = 2 * DISK_BYTES + (64 << 20);
        sh(&format!(
            "mount -t tmpfs -o size={bytes} tmpfs {store}
             truncate -s {DISK_BYTES} {store}/device
             mkfs.ext4 -q -m 0 {store}/device",
            store = store.display(),
        ));
        let name = format!("understudy-chaos-{}-{id}", std::process::id());
        let throttle = Path::new(THROTTLES).join(name);
        let throttle = fs::create_dir(&throttle).is_ok().then_some(throttle);
        let disk = Disk {
            store,
            mount,
            throttle,
        };
        disk.attach();
        disk
    }

    fn attach(&self) {
        // Detached at once, the loop device lives as long as the mount.
        sh(&format!(
            "loop=$(losetup -f --show {}/device); mount $loop {}; losetup -d $loop",
            self.store.display(),
            self.mount.display(),
        ));
    }

    fn has_started(&self, pid: u32) {
        if let Some(throttle) = &self.throttle {
            fs::write(throttle.join("cgroup.procs"), pid.to_string()).expect("a running process");
        }
    }

    /// Lets at most so many writes a second through to the device; 0 for any number. `false`: this
    /// machine has no block throttle.
    pub fn limit_writes(&self, per_second: u32) -> bool {
        let Some(throttle) = &self.throttle else {
            return false;
        };
        let path = self.mount.display();
        let device = sh(&format!("mountpoint -d {path}"));
        let limit = format!("{device} {per_second}");
        fs::write(throttle.join("blkio.throttle.write_iops_device"), limit).is_ok()
    }

    /// Takes all room on the file system.
    pub fn fill(&self) {
        take_all_room(&self.mount.join("ballast"));
    }

    /// Makes everything that is read from the device or written to it fail, with EIO, from one
    /// moment on: it shrinks to nothing under the file system, which is frozen meanwhile.
    ///
    /// (First, a full tmpfs made writes to new blocks fail. But a loop device of Linux 6.18 reports
    /// a write as done of which its file took only the first blocks, so this disk lost what it had
    /// called synced, and a node rightly refused to start on it: seed 7, fault 11.)
    pub fn fail(&self) {
        sh(&format!(
            "fsfreeze -f {mount}
             cp --sparse=always {store}/device {store}/kept
             truncate -s 4096 {store}/device
             losetup -c $(findmnt -no SOURCE {mount})
             fsfreeze -u {mount}",
            store = self.store.display(),
            mount = self.mount.display(),
        ));
    }

    /// Gives the room back that [`Disk::fill`] took.
    pub fn empty(&self) {
        // Not there where nothing was taken.
        let _ = fs::remove_file(self.mount.join("ballast"));
    }

    /// Makes the device work again and repairs the file system. No process may use it.
    pub fn replace_cable(&self) {
        let (store, mount) = (self.store.display(), self.mount.display());
        // e2fsck exits with 1 when it repaired something.
        sh(&format!(
            "umount {mount}
             mv {store}/kept {store}/device
             e2fsck -fy {store}/device >/dev/null 2>&1 || [ $? -le 2 ]"
        ));
        self.attach();
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        for mount in [&self.mount, &self.store] {
            let _ = Command::new("umount").arg("-l").arg(mount).output();
        }
        if let Some(throttle) = &self.throttle {
            let _ = fs::remove_dir(throttle);
        }
    }
}

/// Makes a file of all that is free, down to the last block.
fn take_all_room(ballast: &Path) {
    let room = rustix::fs::statvfs(ballast.parent().expect("a folder")).expect("it is mounted");
    let file = fs::File::create(ballast).expect("a file of ours");
    let bytes = room.f_bfree * room.f_frsize;
    // The file system needs a little itself; what is left is written until nothing more goes.
    let most = bytes.saturating_sub(bytes / 64);
    let _ = rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, most);
    let mut file = file;
    let _ = std::io::Seek::seek(&mut file, std::io::SeekFrom::End(0));
    while file.write_all(&[0; 65_536]).is_ok() {}
    while file.write_all(&[0; 1]).is_ok() {}
    let _ = file.sync_all();
}
