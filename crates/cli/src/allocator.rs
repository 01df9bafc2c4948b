//! Where memory comes from.
//!
//! A server holds very many small values for long, made and dropped by all its threads. The
//! system's allocator keeps more than half as much again in holes that nothing fits; mimalloc keeps
//! less, and gives back what a large request has taken once that is told to.

#![allow(unsafe_code, reason = "the allocator's options can be set through its C interface only")]

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The place of `mi_option_purge_delay` in mimalloc's list of options.
const PURGE_DELAY: std::ffi::c_int = 15;

/// From now on memory that is free is given back at once. Otherwise that waits for the next
/// allocation of its size, and a server to which nobody speaks keeps for ever what a request of
/// 50 MB once needed.
pub(crate) fn give_back_at_once() {
    // SAFETY: it sets an atomic variable of the allocator, and the option exists: `PURGE_DELAY`
    // is within the list.
    unsafe { libmimalloc_sys::mi_option_set(PURGE_DELAY, 0) }
}
