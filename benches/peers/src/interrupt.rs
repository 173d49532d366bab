//! Ctrl-C and SIGTERM end a run in order: the servers that were started must be ended too, and
//! dying on the signal itself would skip every `Drop`.

use tokio::runtime::Handle;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

/// Raised once the user asked this process to stop.
#[derive(Clone, Debug)]
pub struct Interrupt(watch::Receiver<bool>);

impl Interrupt {
    /// From now on SIGINT and SIGTERM raise the flag. A second one ends the process at once; what
    /// it started goes down with it (`servers`).
    pub fn listen(runtime: &Handle) -> std::io::Result<Interrupt> {
        let _inside = runtime.enter();
        let mut int = signal(SignalKind::interrupt())?;
        let mut term = signal(SignalKind::terminate())?;
        let (raise, raised) = watch::channel(false);
        runtime.spawn(async move {
            loop {
                tokio::select! { _ = int.recv() => {} _ = term.recv() => {} }
                if raise.send_replace(true) {
                    std::process::exit(130);
                }
            }
        });
        Ok(Interrupt(raised))
    }

    /// An error once the user asked to stop.
    pub fn check(&self) -> anyhow::Result<()> {
        anyhow::ensure!(!*self.0.borrow(), "interrupted; what was started was ended");
        Ok(())
    }

    /// Runs `work` to its end, or to the interrupt.
    pub async fn or<T>(&self, work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
        let mut raised = self.0.clone();
        tokio::select! {
            done = work => done,
            _ = raised.wait_for(|raised| *raised) => Err(self.check().err().unwrap_or_else(
                || anyhow::anyhow!("the task that listens for signals ended")
            )),
        }
    }
}
