//! The listeners of one thread: which addresses it accepts on, and how they are closed.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::rc::Rc;

use tokio::sync::Notify;

/// The listeners of one thread.
#[derive(Debug, Default)]
pub(crate) struct Listeners {
    /// Notified when the listener must close. A listener that was told to close is no longer in
    /// here, though its task may still be running.
    open: RefCell<HashMap<SocketAddr, Rc<Notify>>>,
    /// The number of accepting tasks.
    accepting: Cell<usize>,
    ended: Notify,
}

impl Listeners {
    /// Adds a listener, in place of one with the same address. Its task must end once
    /// [`Accepting::closed`] returns.
    pub(crate) fn open(self: &Rc<Self>, listen: SocketAddr) -> Accepting {
        let close = Rc::new(Notify::new());
        if let Some(replaced) = self.open.borrow_mut().insert(listen, close.clone()) {
            replaced.notify_one();
        }
        self.accepting.set(self.accepting.get() + 1);
        Accepting { listeners: self.clone(), close }
    }

    /// Closes the selected listeners.
    pub(crate) fn close(&self, is_selected: impl Fn(SocketAddr) -> bool) {
        self.open.borrow_mut().retain(|listen, close| {
            let closes = is_selected(*listen);
            if closes {
                close.notify_one();
            }
            !closes
        });
    }

    /// Waits until no task accepts connections.
    pub(crate) async fn all_ended(&self) {
        loop {
            // Subscribed before the check, so that no end in between is missed.
            let ended = self.ended.notified();
            if self.accepting.get() == 0 {
                return;
            }
            ended.await;
        }
    }
}

/// A task that accepts connections; [`Listeners::all_ended`] waits until it is dropped.
pub(crate) struct Accepting {
    listeners: Rc<Listeners>,
    close: Rc<Notify>,
}

impl Accepting {
    /// Returns when the listener must close.
    pub(crate) async fn closed(&self) {
        self.close.notified().await;
    }
}

impl Drop for Accepting {
    fn drop(&mut self) {
        self.listeners.accepting.set(self.listeners.accepting.get() - 1);
        self.listeners.ended.notify_waiters();
    }
}
