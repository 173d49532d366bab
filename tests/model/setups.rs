//! The clusters that are searched.

use understudy::replica::{Level, MaxLag, MaxLoss, Mode};

use super::world::Bounds;

/// Two data nodes and a witness, semi-sync, level synced.
pub fn witness() -> Bounds {
    Bounds {
        data: 2,
        witnesses: 1,
        silent: 0,
        mode: Mode::SemiSync,
        level: Some(Level::Synced),
        max_loss: MaxLoss::Nothing,
        max_lag: None,
        epochs: 40,
        writes: 30,
        crashes: 10,
        losses: 60,
        in_flight: 14,
        time_steps: 2000,
        rich: true,
        calm: false,
        #[cfg(feature = "mutants")]
        without: None,
    }
}

/// Three data nodes, sync.
pub fn three() -> Bounds {
    Bounds {
        data: 3,
        witnesses: 0,
        mode: Mode::Sync,
        ..witness()
    }
}

/// One data node.
pub fn alone() -> Bounds {
    Bounds {
        data: 1,
        witnesses: 0,
        mode: Mode::Sync,
        ..witness()
    }
}

/// Three data nodes, semi-sync, level received: the default.
pub fn received() -> Bounds {
    Bounds {
        mode: Mode::SemiSync,
        level: None,
        ..three()
    }
}

/// Two data nodes and a witness at level received.
pub fn received_witness() -> Bounds {
    Bounds {
        level: None,
        ..witness()
    }
}

/// Three data nodes in sync whose answers wait until the standbys' readers see the write.
pub fn applied() -> Bounds {
    Bounds {
        level: Some(Level::Applied),
        ..three()
    }
}

/// Async with a budget that `max_lag` makes provable.
pub fn lagging(budget: MaxLoss) -> Bounds {
    let max_lag = match budget {
        MaxLoss::Bytes(bytes) => MaxLag::Bytes(bytes),
        _ => MaxLag::Records(2),
    };
    Bounds {
        mode: Mode::Async,
        level: None,
        max_loss: budget,
        max_lag: Some(max_lag),
        ..witness()
    }
}

/// Async whose lag is limited in time, and so is the loss.
pub fn lagging_in_time(ms: u64) -> Bounds {
    Bounds {
        max_lag: Some(MaxLag::Ms(ms)),
        ..lagging(MaxLoss::SpanMs(ms))
    }
}
