//! The back-off before the next start of an instance, in words.

use crate::unit::Millis;

/// A cause and the back-off that follows it, as a sentence.
pub(crate) fn with_retry(cause: &str, retry_after: Option<Millis>) -> String {
    match retry_after {
        Some(delay @ Millis(1..)) => {
            let seconds = delay.0.div_ceil(1000);
            format!("{cause}; waits {seconds}s before it is started again")
        }
        _ => cause.into(),
    }
}
