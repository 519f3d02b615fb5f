//! The gate that requests pass on their way to the model, and that a snapshot closes.
//!
//! A request holds its pass until it is answered, so a closed gate means that nothing is scored.
//! Passes are the readers of a fair lock and closing is its writer: once a snapshot wants to close
//! it, later requests stand behind, and closing is done when those before have been answered.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{OwnedRwLockReadGuard, OwnedRwLockWriteGuard, RwLock};

/// See the module page.
#[derive(Debug, Default)]
pub(crate) struct AdmissionGate {
    passes: Arc<RwLock<()>>,
    closed: Mutex<Option<OwnedRwLockWriteGuard<()>>>,
}

/// As long as a pass is there, the gate is not closed.
pub(crate) type Pass = OwnedRwLockReadGuard<()>;

impl AdmissionGate {
    /// A pass, if the gate is open and no snapshot is closing it.
    pub(crate) fn try_pass(&self) -> Option<Pass> {
        Arc::clone(&self.passes).try_read_owned().ok()
    }

    /// A pass, as soon as the gate is open.
    pub(crate) async fn pass(&self) -> Pass {
        Arc::clone(&self.passes).read_owned().await
    }

    /// Lets no request in any more and returns when every pass has come back. Dropped before that,
    /// the gate was never closed.
    pub(crate) async fn close(&self) {
        let guard = Arc::clone(&self.passes).write_owned().await;
        *self.closed.lock().unwrap_or_else(PoisonError::into_inner) = Some(guard);
    }

    /// Lets the requests in that wait; an open gate stays open.
    pub(crate) fn open(&self) {
        self.closed.lock().unwrap_or_else(PoisonError::into_inner).take();
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    use super::*;

    fn poll<F: Future>(future: std::pin::Pin<&mut F>) -> Poll<F::Output> {
        future.poll(&mut Context::from_waker(Waker::noop()))
    }

    #[test]
    fn closing_waits_for_those_inside_and_stops_those_behind() {
        let gate = AdmissionGate::default();
        let inside = gate.try_pass().expect("open");
        let mut closing = pin!(gate.close());
        assert!(poll(closing.as_mut()).is_pending());
        assert!(gate.try_pass().is_none());
        let mut behind = pin!(gate.pass());
        assert!(poll(behind.as_mut()).is_pending());
        drop(inside);
        assert!(poll(closing.as_mut()).is_ready());
        assert!(poll(behind.as_mut()).is_pending());
        gate.open();
        assert!(poll(behind.as_mut()).is_ready());
        gate.open();
        assert!(gate.try_pass().is_some());
    }

    #[test]
    fn giving_up_closing_opens() {
        let gate = AdmissionGate::default();
        let inside = gate.try_pass().expect("open");
        {
            let mut closing = pin!(gate.close());
            assert!(poll(closing.as_mut()).is_pending());
        }
        assert!(gate.try_pass().is_some());
        drop(inside);
    }
}
