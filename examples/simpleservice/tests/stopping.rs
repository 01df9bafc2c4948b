//! The real process: the responses to clients while it stops, and its exit.

#![allow(clippy::unwrap_used, reason = "a test's own errors are its failures")]

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    process::{Child, Command, ExitStatus, Stdio},
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};

/// A running service; killed when a test fails half-way.
struct Service {
    child: Child,
    port: u16,
    lines: BufReader<std::process::ChildStderr>,
}

impl Service {
    fn start(variables: &[(&str, &str)]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_simpleservice"))
            .env("PORT0", "0")
            .envs(variables.iter().copied())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap());
        let mut first = String::new();
        lines.read_line(&mut first).unwrap();
        let port = first.trim_end().rsplit(' ').next().unwrap().parse().unwrap();
        Self { child, port, lines }
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        stream
    }

    fn terminate(&self) {
        kill_process(Pid::from_child(&self.child), Signal::TERM).unwrap();
    }

    fn ended(&mut self) -> ExitStatus {
        self.child.wait().unwrap()
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn send(stream: &mut TcpStream, path: &str) {
    write!(stream, "GET {path} HTTP/1.1\r\nHost: here\r\n\r\n").unwrap();
}

fn until_closed(mut stream: TcpStream) -> String {
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text
}

#[test]
fn a_request_in_flight_is_answered_and_its_connection_closed() {
    let mut service = Service::start(&[("HEALTH_MIN", "300")]);
    let mut idle = service.connect();
    send(&mut idle, "/endpoint0");
    let mut head = [0; 12];
    idle.read_exact(&mut head).unwrap();
    assert_eq!(&head, b"HTTP/1.1 200");

    let mut busy = service.connect();
    send(&mut busy, "/health");
    // Sent before the signal on a connection completed before the signal: all that a client can know.
    service.terminate();
    let response = until_closed(busy);
    assert!(response.starts_with("HTTP/1.1 200"), "{response}");
    assert!(response.ends_with(r#"{"healthy": true}"#), "{response}");
    until_closed(idle);
    assert_eq!(service.ended().code(), Some(0));
}

#[test]
fn a_request_that_arrives_just_after_the_signal_is_answered() {
    let mut service = Service::start(&[("HEALTH_MIN", "300")]);
    let mut slow = service.connect();
    send(&mut slow, "/health");
    let mut late = service.connect();
    service.terminate();
    send(&mut late, "/endpoint0");
    let response = until_closed(late).to_ascii_lowercase();
    assert!(response.starts_with("http/1.1 200"), "{response}");
    assert!(until_closed(slow).to_ascii_lowercase().contains("connection: close"));
    assert_eq!(service.ended().code(), Some(0));
}

#[test]
fn each_request_is_logged_in_one_line() {
    let mut service = Service::start(&[]);
    let mut stream = service.connect();
    send(&mut stream, "/info");
    let mut line = String::new();
    service.lines.read_line(&mut line).unwrap();
    assert!(line.contains(" INFO 200 GET /info (127.0.0.1) "), "{line}");
}

#[test]
fn the_service_exits_on_request_and_rejects_invalid_settings() {
    assert_eq!(Service::start(&[("EXIT_AFTER_MS", "1")]).ended().code(), Some(1));
    let refused =
        Command::new(env!("CARGO_BIN_EXE_simpleservice")).env("PORT0", "http").output().unwrap();
    assert_eq!(refused.status.code(), Some(2));
    let message = String::from_utf8(refused.stderr).unwrap();
    assert_eq!(message, "simpleservice: PORT0=\"http\": give a port number from 0 to 65535\n");
}
