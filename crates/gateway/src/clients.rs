//! The client connections of one thread, and the limit on their number.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::rc::Rc;

use tokio::sync::Notify;

use crate::client::state::Client;

/// The client connections of one thread.
#[derive(Debug)]
pub(crate) struct Clients {
    max: usize,
    clients: RefCell<HashMap<u64, Rc<Client>>>,
    next: Cell<u64>,
    /// Notified whenever an entry is removed.
    removed: Notify,
}

impl Clients {
    /// At most `max` connections, and at least one.
    pub(crate) fn new(max: usize) -> Rc<Self> {
        let (clients, next, removed) = Default::default();
        Rc::new(Self { max: max.max(1), clients, next, removed })
    }

    /// Adds a connection. It takes a slot until the returned value is dropped.
    pub(crate) fn enter(self: &Rc<Self>, client: Rc<Client>) -> Entered {
        let number = self.next.get();
        self.next.set(number + 1);
        self.clients.borrow_mut().insert(number, client);
        Entered { clients: self.clone(), number }
    }

    /// Waits until there is a free slot. It is taken by [`Clients::enter`] only, so each listener
    /// may exceed the limit by one connection.
    pub(crate) async fn slot_available(&self) {
        self.removed_until(|| self.clients.borrow().len() < self.max).await;
    }

    /// Closes the connections of the selected listeners once their requests are done.
    pub(crate) fn close(&self, is_selected: impl Fn(SocketAddr) -> bool) {
        for client in self.clients.borrow().values().filter(|client| is_selected(client.listen)) {
            client.close_gracefully();
        }
    }

    /// Waits until no connection is left.
    pub(crate) async fn all_removed(&self) {
        self.removed_until(|| self.clients.borrow().is_empty()).await;
    }

    /// Waits for a condition that only a removal can make true. A removal wakes all waiters and
    /// each checks its own condition: a single woken waiter might not be the one that can proceed.
    async fn removed_until(&self, condition: impl Fn() -> bool) {
        loop {
            // Subscribed before the check, so that no removal in between is missed.
            let removed = self.removed.notified();
            if condition() {
                return;
            }
            removed.await;
        }
    }
}

/// The entry of a connection in [`Clients`].
pub(crate) struct Entered {
    clients: Rc<Clients>,
    number: u64,
}

impl Drop for Entered {
    fn drop(&mut self) {
        self.clients.clients.borrow_mut().remove(&self.number);
        self.clients.removed.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use futures_util::poll;
    use std::pin::pin;
    use std::task::Poll::{Pending, Ready};

    use super::*;

    /// One connection above the limit: each listener accepts one before it waits.
    #[tokio::test]
    async fn a_free_slot_wakes_every_waiting_listener() {
        let clients = Clients::new(1);
        let client = || Rc::new(Client::for_tests("10.0.0.1:1", "127.0.0.1:80"));
        let (first, second) = (clients.enter(client()), clients.enter(client()));
        let (mut one, mut two) = (pin!(clients.slot_available()), pin!(clients.slot_available()));
        assert_eq!((poll!(&mut one), poll!(&mut two)), (Pending, Pending));
        drop(first);
        assert_eq!((poll!(&mut one), poll!(&mut two)), (Pending, Pending));
        drop(second);
        assert_eq!((poll!(&mut one), poll!(&mut two)), (Ready(()), Ready(())));
    }
}
