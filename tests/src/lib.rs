//! What the integration tests share: a processor with memory and nothing around it, on each engine.
//!
//! [`Bench`] is the processor, [`setup`] puts it into a mode, [`Snapshot`] is everything a guest could
//! tell two runs apart by. The three engines of [`Engine::ALL`] must leave equal snapshots (DESIGN rule 11).

pub mod agree;
mod bench;
pub mod fuzz;
pub mod native;
pub mod program;
mod rng;
pub mod setup;
mod snapshot;
pub mod wide;
pub mod world;

pub use bench::{Bench, Ending, Engine, NullBus, RAM, model_of};
pub use rng::Rng;
pub use snapshot::{GPR_NAMES, SEG_NAMES, Snapshot};
