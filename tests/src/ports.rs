//! Ports that no other test uses. Tests run side by side on one machine, and so do their agents,
//! each of which believes that it has the machine to itself: every test process claims blocks of
//! ports for good by holding the first port of each.

use std::net::TcpListener;
use std::sync::Mutex;

use anyhow::{Context, Result};

/// Ports in a block, the first of which is held.
const BLOCK: u16 = 100;
/// Blocks lie below the range from which the kernel draws.
const FIRST: u16 = 12_000;
const COUNT: u16 = 190;

static HELD: Mutex<Vec<(TcpListener, u16)>> = Mutex::new(Vec::new());

/// Claims a block of ports until this process ends: its first and last usable port.
pub(crate) fn claim() -> Result<(u16, u16)> {
    let mut held = HELD.lock().map_err(|_| anyhow::anyhow!("a test panicked while it claimed"))?;
    let claimed = (0..COUNT).map(|i| FIRST + i * BLOCK).find_map(|first| {
        TcpListener::bind(("127.0.0.1", first)).ok().map(|listener| (listener, first))
    });
    let (listener, first) = claimed.context("no block of ports is free")?;
    held.push((listener, first));
    Ok((first + 1, first + BLOCK - 1))
}

/// A port of this process's own.
pub fn free_port() -> Result<u16> {
    static OWN: Mutex<Option<(u16, u16)>> = Mutex::new(None);
    let mut own = OWN.lock().map_err(|_| anyhow::anyhow!("a test panicked while it chose"))?;
    let (next, last) = match *own {
        Some(range) => range,
        None => claim()?,
    };
    anyhow::ensure!(next <= last, "this test uses more ports than a block has");
    *own = Some((next + 1, last));
    Ok(next)
}
