//! Ctrl-C and SIGTERM as a flag that long commands look at between steps.
//!
//! A command that started node processes must get the chance to kill them: dying on the signal
//! itself would skip every `Drop`. So the signals only raise this flag, and each waiting loop asks
//! [`Interrupt::check`].

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::runtime::Handle;
use tokio::signal::unix::{SignalKind, signal};

/// Raised once the user asked this process to stop.
#[derive(Clone, Debug, Default)]
pub(super) struct Interrupt(Arc<AtomicBool>);

impl Interrupt {
    /// From now on SIGINT and SIGTERM raise the flag instead of ending the process. A second
    /// signal ends it at once, for the case that a step hangs.
    pub(super) fn listen(runtime: &Handle) -> std::io::Result<Interrupt> {
        let interrupt = Interrupt::default();
        let _inside = runtime.enter();
        let mut int = signal(SignalKind::interrupt())?;
        let mut term = signal(SignalKind::terminate())?;
        let flag = interrupt.clone();
        runtime.spawn(async move {
            loop {
                tokio::select! { _ = int.recv() => {} _ = term.recv() => {} }
                if flag.0.swap(true, Ordering::SeqCst) {
                    std::process::exit(130);
                }
            }
        });
        Ok(interrupt)
    }

    /// Whether the user asked to stop.
    pub(super) fn is_raised(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }

    /// An error once the user asked to stop.
    pub(super) fn check(&self) -> anyhow::Result<()> {
        anyhow::ensure!(
            !self.is_raised(),
            "interrupted; the nodes it started were stopped"
        );
        Ok(())
    }
}
