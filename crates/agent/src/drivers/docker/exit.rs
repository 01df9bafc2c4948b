//! The exit of a container, in the terms of the model.

use model::{Bytes, Ending, Exit, Timestamp};

/// The exit code of a process that was killed with SIGKILL, for example by the kernel when it is
/// out of memory.
pub(super) const KILLED: i32 = 128 + 9;

/// The highest signal number; an exit code above `128 +` this does not stand for a signal.
const SIGNAL_MAX: i32 = 64;

/// The maximum time in milliseconds between an OOM kill in a container and an end that it explains.
const CAUSE_MS_MAX: u64 = 10_000;

/// Whether an OOM kill at `oom` explains an end at `end`. The two events can arrive in either
/// order.
pub(super) fn is_cause(oom: Timestamp, end: Timestamp) -> bool {
    end.since(oom).0 <= CAUSE_MS_MAX
}

/// The exit of a container with `code`. `out_of_memory` is its memory limit, if it was reached.
///
/// Docker encodes the signal that ended a process as 128 + its number, as shells do.
pub(super) fn exit(code: i32, at: Timestamp, out_of_memory: Option<Bytes>) -> Exit {
    let signal = Some(code - 128).filter(|signal| (1..=SIGNAL_MAX).contains(signal));
    let how = match (out_of_memory, signal) {
        (Some(limit), signal) => Ending::OutOfMemory {
            code: signal.is_none().then_some(code),
            signal,
            limit: limit.to_string(),
            afterwards: code != KILLED,
        },
        (None, Some(signal)) => Ending::Signal { signal },
        (None, None) => Ending::Code { code },
    };
    Exit { at, how }
}

/// The exit of a container that another client has removed.
pub(super) fn vanished(at: Timestamp) -> Exit {
    Exit { at, how: Ending::Vanished }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exits_are_described_in_messages() {
        let check = |code, limit: Option<u64>, expected: (Option<i32>, Option<i32>, &str)| {
            let exit = exit(code, Timestamp(5), limit.map(Bytes::mib));
            assert_eq!((exit.code(), exit.signal(), exit.to_string().as_str()), expected);
        };
        check(0, None, (Some(0), None, "exit code 0"));
        check(3, None, (Some(3), None, "exit code 3"));
        check(137, None, (None, Some(9), "killed by signal 9"));
        check(137, Some(128), (None, Some(9), "out of memory: limit 128MiB"));
        check(143, None, (None, Some(15), "killed by signal 15"));
        check(1, Some(64), (Some(1), None, "exit code 1 after running out of memory: limit 64MiB"));
        check(128, None, (Some(128), None, "exit code 128"));
        check(255, None, (Some(255), None, "exit code 255"));
    }
}
