//! Single decisions of the core, event by event. Properties of whole histories (nothing
//! acknowledged is lost, budgets are kept, the cluster converges) are checked by the simulator.

mod daemons;
mod events;
mod fixture;
mod storing;
mod traffic;
