//! The sweeps: points that can share servers and data do, all others have their own.

mod catch_up;
mod loads;
mod replay;
mod restart;

use super::Run;
use super::axis::Axis;

impl Run<'_> {
    /// Measures one axis. What fails at one point is noted, and the others go on; an error is the
    /// user's wish to stop.
    pub async fn sweep(&mut self, axis: Axis) -> anyhow::Result<()> {
        let points = self.points(axis);
        let together = match axis {
            // Only the load differs.
            Axis::Clients | Axis::Pipeline => points.len(),
            _ => 1,
        };
        for group in points.chunks(together) {
            let at = group[0];
            let swept = match axis {
                Axis::Replay => self.replay(at).await,
                Axis::CatchUp => self.catch_up(at).await,
                _ => self.loads(axis, group).await,
            };
            self.settle(axis, (together == 1).then_some(at), swept)?;
        }
        Ok(())
    }
}
