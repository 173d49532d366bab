//! The keyspace: what the keys are now. `plan` says what a command would do, `apply` does it.
//!
//! Effects are absolute and idempotent (`SET key value expire_at`, `DEL key`, …): replaying the log
//! from any snapshot's begin converges to the exact state, and replaying a record twice does no
//! harm. Nothing here reads a clock or draws a random number; both are arguments. No lock inside:
//! the owner holds one around it.

mod effect;
mod expire;
mod glob;
mod number;
mod pending;
mod plan;
mod scan;
mod table;

pub use effect::{Effect, EffectError, Effects};
pub use plan::Plan;
pub use scan::WalkCursor;
pub use table::Keyspace;
