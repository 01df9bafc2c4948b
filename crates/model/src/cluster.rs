//! The identity of a cluster and the history of its store, by which daemons recognise a server that
//! must not direct them: one of another cluster, or one whose store is older than what they know.
//!
//! Each start of a server begins a [`Term`], which the store records. A [`Position`] is a revision
//! within a term. A daemon keeps the newest position that it was given and sends it with every
//! request; a server whose history does not contain that position has lost what followed, and
//! refuses the daemon. Numbers of revisions alone would not show this for long: the older store
//! continues to count and passes the number that the daemon knows.

use std::collections::BTreeSet;
use std::fmt;
use std::num::ParseIntError;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The number of terms that a store records. A daemon that was last connected in an earlier one
/// cannot be checked, and is trusted.
pub(crate) const TERMS_KEPT: usize = 256;

/// Identifies a cluster: random, created with its store, and never changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ClusterId(pub u64);

/// One start of a server on a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Term {
    /// The epoch of its leader, which rises with each term of a history.
    pub number: u64,
    /// Random: it distinguishes the terms of two histories that continue the same store.
    pub nonce: u64,
}

/// A revision in the history of a cluster's store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Position {
    /// The cluster.
    pub cluster: ClusterId,
    /// The term in which the revision was written.
    pub term: Term,
    /// The revision of the store.
    pub revision: u64,
}

/// Why a text is not an id, a term or a position.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not {expected}")]
pub struct ParseError {
    text: String,
    expected: &'static str,
}

/// Random numbers for a new term, drawn by the shell of a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Start {
    /// The id of the cluster, if the store has none yet.
    pub cluster: ClusterId,
    /// The nonce of the term.
    pub nonce: u64,
    /// The newest revision before the term.
    pub after: u64,
}

/// The identity of a cluster and the terms of its store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cluster {
    /// Its id.
    pub id: ClusterId,
    /// The newest terms, oldest first.
    pub terms: Vec<TermStart>,
    /// Terms of histories that this store does not have, and whose loss an operator has accepted.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub lost: BTreeSet<Term>,
}

/// A term and where it begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct TermStart {
    /// The term.
    pub term: Term,
    /// The newest revision before it.
    pub after: u64,
}

/// A kind of daemon that follows a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Daemon {
    /// An agent.
    Agent,
    /// A gateway.
    Gateway,
}

/// Why a daemon and a server do not belong together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "kebab-case", tag = "mismatch")]
pub enum Mismatch {
    /// The server has another cluster's store.
    #[error("the server is of cluster {server}, not of {daemon}")]
    OtherCluster {
        /// The cluster that the daemon belongs to.
        daemon: ClusterId,
        /// The cluster of the server.
        server: ClusterId,
    },
    /// The server's store lacks changes that the daemon knows of.
    #[error(
        "the server's store is older than revision {} of term {}, which was stored before", .known.revision,
        .known.term
    )]
    Older {
        /// The newest position that the daemon was given.
        known: Position,
    },
    /// The server does not state its cluster: it is of an older version.
    #[error("the server does not state its cluster, which should be {daemon}")]
    Unstated {
        /// The cluster that the daemon belongs to.
        daemon: ClusterId,
    },
}

impl Cluster {
    /// Checks that the history, which continues up to the revision `newest`, contains the position
    /// that a daemon knows.
    pub fn check(&self, known: &Position, newest: u64) -> Result<(), Mismatch> {
        if known.cluster != self.id {
            return Err(Mismatch::OtherCluster { daemon: known.cluster, server: self.id });
        }
        let is_pruned = self.terms.len() == TERMS_KEPT
            && self.terms.first().is_some_and(|first| known.term.number < first.term.number);
        if is_pruned || self.lost.contains(&known.term) {
            return Ok(());
        }
        let own = self.terms.iter().position(|start| start.term == known.term);
        let last = own.map(|at| self.terms.get(at + 1).map_or(newest, |next| next.after));
        match last.is_some_and(|last| known.revision <= last) {
            true => Ok(()),
            false => Err(Mismatch::Older { known: *known }),
        }
    }

    /// The term that has not ended.
    pub(crate) fn current(&self) -> Option<Term> {
        self.terms.last().map(|start| start.term)
    }
}

impl Position {
    /// The newest position that a daemon knows once a server has stated its own. The server has
    /// already checked the daemon's against its history.
    ///
    /// # Errors
    ///
    /// The server is of another cluster or of an earlier term.
    pub fn advance(known: Option<Position>, stated: Position) -> Result<Position, Mismatch> {
        let Some(known) = known else { return Ok(stated) };
        if known.cluster != stated.cluster {
            let (daemon, server) = (known.cluster, stated.cluster);
            return Err(Mismatch::OtherCluster { daemon, server });
        }
        let is_fork = known.term.number == stated.term.number && known.term != stated.term;
        if stated.term.number < known.term.number || is_fork {
            return Err(Mismatch::Older { known });
        }
        // Responses of one term may overtake each other.
        let is_newer = (stated.term, stated.revision) > (known.term, known.revision);
        Ok(if is_newer { stated } else { known })
    }
}

impl fmt::Display for Daemon {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Daemon::Agent => "agent",
            Daemon::Gateway => "gateway",
        })
    }
}

impl fmt::Display for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{:016x}", self.0))
    }
}

impl fmt::Display for Term {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{:016x}", self.number, self.nonce)
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.cluster, self.term, self.revision)
    }
}

fn hexadecimal(text: &str) -> Option<u64> {
    let read: Result<u64, ParseIntError> = u64::from_str_radix(text, 16);
    read.ok().filter(|_| text.len() == 16)
}

impl FromStr for ClusterId {
    type Err = ParseError;
    fn from_str(text: &str) -> Result<Self, ParseError> {
        let expected = "the id of a cluster: expected 16 hexadecimal digits";
        let id = hexadecimal(text).ok_or_else(|| ParseError { text: text.into(), expected });
        id.map(ClusterId)
    }
}

impl FromStr for Term {
    type Err = ParseError;
    fn from_str(text: &str) -> Result<Self, ParseError> {
        let parse = || {
            let (number, nonce) = text.split_once('-')?;
            Some(Term { number: number.parse().ok()?, nonce: hexadecimal(nonce)? })
        };
        parse().ok_or_else(|| ParseError { text: text.into(), expected: "a term" })
    }
}

impl FromStr for Position {
    type Err = ParseError;
    fn from_str(text: &str) -> Result<Self, ParseError> {
        let parse = || {
            let (cluster, rest) = text.split_once('/')?;
            let (term, revision) = rest.split_once('/')?;
            let (cluster, term) = (cluster.parse().ok()?, term.parse().ok()?);
            Some(Position { cluster, term, revision: revision.parse().ok()? })
        };
        parse().ok_or_else(|| ParseError { text: text.into(), expected: "a position" })
    }
}

macro_rules! as_text {
    ($($name:ident)*) => {$(
        impl TryFrom<String> for $name {
            type Error = ParseError;
            fn try_from(text: String) -> Result<Self, ParseError> {
                text.parse()
            }
        }
        impl From<$name> for String {
            fn from(value: $name) -> String {
                value.to_string()
            }
        }
    )*};
}

as_text!(ClusterId Term Position);
