//! Single decisions of the core, event by event. What holds over whole histories (nothing
//! acknowledged is lost, budgets are kept, the cluster converges) is checked by the simulator.

mod daemons;
mod events;
mod fixture;
mod storing;
mod traffic;
