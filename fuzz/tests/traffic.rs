//! The checker of `traffic` is tested as well.
#![cfg(debug_assertions)]

use gateway::Settings;
use muster_fuzz::traffic::makes_progress;

/// The default behaviour of the backend, then a piece of a request as it is.
fn script(request: &str) -> Vec<u8> {
    [&[0, 0, 0, 0, 0, request.len() as u8], request.as_bytes()].concat()
}

#[test]
fn a_gateway_that_makes_no_progress_is_detected() {
    let settings = || Settings { spin_on: Some("/spin".into()), ..Settings::default() };
    assert!(makes_progress(&script("GET / HTTP/1.1\r\nhost: a\r\n\r\n"), settings()));
    assert!(!makes_progress(&script("GET /spin HTTP/1.1\r\nhost: a\r\n\r\n"), settings()));
}
