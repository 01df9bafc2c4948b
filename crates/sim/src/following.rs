//! How daemons decide whether to follow a server.

use api::{Caller, Membership};
use model::{Daemon, NodeId};

use crate::bug::InjectedBug;
use crate::environment::Environment;
use crate::message::Reply;

/// The membership of a daemon that has never met a server.
pub(crate) fn membership(daemon: Daemon, node: &NodeId) -> Membership {
    let caller = Caller { daemon, node: node.clone(), id: String::new(), position: None };
    Membership::forgetful(caller, None)
}

/// The response as a daemon understands it: one of a server that it must not follow is a
/// rejection. A daemon keeps the position of a server that accepts its request.
pub(crate) fn checked(reply: Reply, membership: &Membership, env: &mut Environment) -> Reply {
    let Reply::Stated(stated, reply) = reply else { return reply };
    let is_success =
        matches!(*reply, Reply::Changeset(Ok(_)) | Reply::Reported(Ok(_)) | Reply::Stream(_));
    let checked = membership.check(stated, is_success);
    if checked.is_err() && env.bug != Some(InjectedBug::AnyServer) {
        return Reply::Rejected;
    }
    if let (Reply::Stream(_), Some(stated)) = (&*reply, stated)
        && env.wrong_terms.contains(&stated.term)
    {
        let detail = format!("it follows {stated}");
        env.violated("daemons follow the newest server of their cluster", detail);
    }
    *reply
}
