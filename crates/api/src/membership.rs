//! The cluster that a daemon belongs to. Every request of a daemon states who it is and the newest
//! [`Position`] that it knows; every response states the position of the server. A daemon follows no
//! server of another cluster, and none whose store is older than what it knows: on behalf of such a
//! server it would stop instances that should run.

use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::HeaderValue;
use http::header::HeaderName;
use model::{ClusterId, Daemon, Mismatch, NodeId, Position};
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;

/// The header in which a daemon states who it is: a [`Caller`] as JSON.
pub const DAEMON: HeaderName = HeaderName::from_static("muster-daemon");
/// The header in which a server states its position to daemons.
pub const POSITION: HeaderName = HeaderName::from_static("muster-position");

/// The least time between two writes while the position advances.
const WRITE_INTERVAL: Duration = Duration::from_secs(1);

/// A daemon that sends a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Caller {
    /// Its kind.
    pub daemon: Daemon,
    /// Its node.
    pub node: NodeId,
    /// Distinguishes it from other daemons of that kind and node.
    pub id: String,
    /// The newest position that it knows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub position: Option<Position>,
}

/// What a daemon knows of its cluster.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Known {
    /// The only cluster whose servers it follows.
    cluster: Option<ClusterId>,
    /// The newest position in its history.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    position: Option<Position>,
}

/// The membership of a daemon in a cluster. Clones share it.
#[derive(Clone)]
pub struct Membership(Arc<Inner>);

impl fmt::Debug for Membership {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Membership").field(&self.0.caller).field(&self.known()).finish()
    }
}

/// Keeps a text for the next start of a daemon, durably.
pub type Save = Box<dyn Fn(&[u8]) -> io::Result<()> + Send + Sync>;

struct Inner {
    caller: Caller,
    save: Save,
    known: Mutex<Known>,
    advanced: Notify,
}

impl Membership {
    /// The membership of a daemon that has `kept` this text, if any, and keeps another with `save`.
    /// With `adopt`, the daemon follows that cluster from now on, whichever it belonged to before. A
    /// daemon that belongs to no cluster joins that of the first server that it reaches.
    ///
    /// # Errors
    ///
    /// The text cannot be read, or the adoption cannot be saved.
    pub fn new(
        caller: Caller,
        kept: Option<&[u8]>,
        save: Save,
        adopt: Option<ClusterId>,
    ) -> io::Result<Membership> {
        let mut known = match kept {
            Some(kept) => serde_json::from_slice(kept).map_err(io::Error::other)?,
            None => Known::default(),
        };
        if adopt.is_some() && adopt != known.cluster {
            known = Known { cluster: adopt, position: None };
            save(&serde_json::to_vec(&known)?)?;
        }
        let (known, advanced) = (Mutex::new(known), Notify::new());
        Ok(Membership(Arc::new(Inner { caller, save, known, advanced })))
    }

    /// The membership of a daemon that has kept nothing and keeps nothing when it ends.
    pub fn forgetful(caller: Caller, adopt: Option<ClusterId>) -> Membership {
        let known = Known { cluster: adopt, position: None };
        let (known, advanced) = (Mutex::new(known), Notify::new());
        let save = Box::new(|_: &[u8]| Ok(()));
        Membership(Arc::new(Inner { caller, save, known, advanced }))
    }

    fn known(&self) -> Known {
        *self.0.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The newest position that the daemon knows.
    pub fn position(&self) -> Option<Position> {
        self.known().position
    }

    /// The header that a request states.
    pub(crate) fn header(&self) -> Option<HeaderValue> {
        let caller = Caller { position: self.position(), ..self.0.caller.clone() };
        HeaderValue::from_bytes(&serde_json::to_vec(&caller).ok()?).ok()
    }

    /// Checks the position that a server has stated in a response, and keeps it if the response is
    /// a success: then the server has found the position of this daemon in its history.
    ///
    /// # Errors
    ///
    /// The server must not be followed.
    pub fn check(&self, stated: Option<Position>, is_success: bool) -> Result<(), Mismatch> {
        let mut known = self.0.known.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(stated) = stated else {
            // Other programs, such as a proxy, may respond with an error.
            return match known.cluster.filter(|_| is_success) {
                Some(daemon) => Err(Mismatch::Unstated { daemon }),
                None => Ok(()),
            };
        };
        if let Some(daemon) = known.cluster.filter(|cluster| *cluster != stated.cluster) {
            return Err(Mismatch::OtherCluster { daemon, server: stated.cluster });
        }
        if !is_success {
            return Ok(());
        }
        let position = Position::advance(known.position, stated)?;
        let is_first = known.position.is_none();
        if known.position == Some(position) {
            return Ok(());
        }
        *known = Known { cluster: Some(position.cluster), position: Some(position) };
        if is_first {
            tracing::info!(cluster = %position.cluster, "joined the cluster");
            // Before anything is done on behalf of this cluster.
            self.write(*known);
        } else {
            self.0.advanced.notify_one();
        }
        Ok(())
    }

    fn write(&self, known: Known) {
        let saved = serde_json::to_vec(&known).map_err(io::Error::from);
        if let Err(error) = saved.and_then(|known| (self.0.save)(&known)) {
            tracing::error!(
                "the identity and the position of the cluster cannot be saved: {error}; the next change of the position is saved again"
            );
        }
    }

    /// Writes the position whenever it has advanced. Never returns.
    pub async fn persist(self) {
        loop {
            self.0.advanced.notified().await;
            let (known, own) = (self.known(), self.clone());
            let _ = tokio::task::spawn_blocking(move || own.write(known)).await;
            tokio::time::sleep(WRITE_INTERVAL).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn caller() -> Caller {
        let node = "n1".parse().unwrap();
        Caller { daemon: Daemon::Agent, node, id: "a".into(), position: None }
    }

    /// The file of a daemon.
    #[derive(Clone, Default)]
    struct Kept(Arc<Mutex<Option<Vec<u8>>>>);

    impl Kept {
        fn open(&self, adopt: Option<ClusterId>) -> Membership {
            let (kept, own) = (self.0.lock().unwrap().clone(), self.clone());
            let save = Box::new(move |text: &[u8]| {
                *own.0.lock().unwrap() = Some(text.to_vec());
                Ok(())
            });
            Membership::new(caller(), kept.as_deref(), save, adopt).unwrap()
        }
    }

    fn position(cluster: u64, term: u64, revision: u64) -> Position {
        let term = model::Term { number: term, nonce: term };
        Position { cluster: ClusterId(cluster), term, revision }
    }

    #[test]
    fn a_daemon_keeps_its_cluster_and_position_across_restarts() {
        let kept = Kept::default();
        let open = |adopt| kept.open(adopt);
        let membership = open(None);
        assert_eq!(membership.check(None, true), Ok(()), "a server of the first version");
        assert_eq!(membership.check(Some(position(1, 1, 5)), true), Ok(()));
        let other = Mismatch::OtherCluster { daemon: ClusterId(1), server: ClusterId(2) };
        for membership in [membership, open(None)] {
            for is_success in [true, false] {
                let checked = membership.check(Some(position(2, 9, 9)), is_success);
                assert_eq!(checked, Err(other));
            }
            let unstated = Mismatch::Unstated { daemon: ClusterId(1) };
            assert_eq!(membership.check(None, true), Err(unstated));
            assert_eq!(membership.check(None, false), Ok(()));
        }
        assert_eq!(open(Some(ClusterId(2))).check(Some(position(2, 1, 1)), true), Ok(()));
        let back = Mismatch::OtherCluster { daemon: ClusterId(2), server: ClusterId(1) };
        assert_eq!(open(None).check(Some(position(1, 1, 5)), true), Err(back));
    }

    #[test]
    fn an_adoption_that_is_repeated_keeps_the_position() {
        let kept = Kept::default();
        let open = || kept.open(Some(ClusterId(1)));
        assert_eq!(open().check(Some(position(1, 4, 5)), true), Ok(()));
        let known = position(1, 4, 5);
        assert_eq!(open().check(Some(position(1, 3, 5)), true), Err(Mismatch::Older { known }));
    }

    #[test]
    fn a_refusal_does_not_advance_the_position() {
        let membership = Membership::forgetful(caller(), None);
        membership.check(Some(position(1, 4, 5)), true).unwrap();
        // The server of an older store that has been started often.
        membership.check(Some(position(1, 9, 900)), false).unwrap();
        assert_eq!(membership.known().position, Some(position(1, 4, 5)));
    }

    #[tokio::test]
    async fn a_position_that_advances_is_written() {
        let kept = Kept::default();
        let membership = kept.open(None);
        membership.check(Some(position(1, 1, 1)), true).unwrap();
        let persisting = tokio::spawn(membership.clone().persist());
        membership.check(Some(position(1, 1, 7)), true).unwrap();
        let is_written = || {
            let text = kept.0.lock().unwrap().clone().unwrap();
            serde_json::from_slice::<Known>(&text).unwrap().position == Some(position(1, 1, 7))
        };
        while !is_written() {
            tokio::task::yield_now().await;
        }
        persisting.abort();
    }
}
