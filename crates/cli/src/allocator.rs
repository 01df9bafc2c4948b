//! The memory allocator.
//!
//! A server holds many small, long-lived values, which all its threads create and drop. The
//! system's allocator wastes more than half as much again on fragmentation. mimalloc wastes less,
//! and returns the memory of a large request to the system if it is configured to.

#![allow(unsafe_code, reason = "the allocator's options can be set through its C interface only")]

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The index of `mi_option_purge_delay` in mimalloc's list of options.
const PURGE_DELAY: std::ffi::c_int = 15;

/// From now on, freed memory is returned to the system at once. Otherwise mimalloc waits for the
/// next allocation of that size, and an idle server keeps forever the memory that one request of 50
/// MB needed.
pub(crate) fn give_back_at_once() {
    // SAFETY: it sets an atomic variable of the allocator, and the option exists: `PURGE_DELAY`
    // is within the list.
    unsafe { libmimalloc_sys::mi_option_set(PURGE_DELAY, 0) }
}
