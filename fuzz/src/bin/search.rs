//! A target under libFuzzer, which looks for inputs that reach new code. Started by
//! `cargo xtask fuzz`, which names the target in `FUZZ_TARGET`.

#![no_main]
#![allow(unsafe_code, reason = "libFuzzer calls in by an exported name")]

use std::sync::OnceLock;

use libfuzzer_sys::fuzz_target;
use muster_fuzz::{Target, target};

static TARGET: OnceLock<&Target> = OnceLock::new();

fn chosen() -> &'static Target {
    let name = std::env::var("FUZZ_TARGET").unwrap_or_default();
    target(&name).unwrap_or_else(|| panic!("FUZZ_TARGET names no target: `{name}`"))
}

fuzz_target!(|input: &[u8]| {
    (TARGET.get_or_init(chosen).run)(input);
});
