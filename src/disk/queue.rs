//! A queue that several threads take from.
//!
//! Holds: each item is taken once, in order, or dropped when no thread is left to take it. Its length is the caller's
//! to bound. A channel would have its readers take turns at a lock around it, and wake two of them for each item.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

/// Items that no thread has taken yet.
pub(super) struct Queue<T> {
    state: Mutex<State<T>>,
    changed: Condvar,
}

struct State<T> {
    items: VecDeque<T>,
    /// No item comes any more.
    closed: bool,
    takers: usize,
}

impl<T> Default for Queue<T> {
    fn default() -> Self {
        let state = State { items: VecDeque::new(), closed: false, takers: 0 };
        Self { state: Mutex::new(state), changed: Condvar::new() }
    }
}

impl<T> Queue<T> {
    fn state(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Queues `item`, or drops it where no thread would take it.
    pub(super) fn put(&self, item: T) {
        let mut state = self.state();
        if state.takers != 0 {
            state.items.push_back(item);
            self.changed.notify_one();
        }
    }

    /// Lets the takers end once they have taken what there is.
    pub(super) fn close(&self) {
        self.state().closed = true;
        self.changed.notify_all();
    }
}

/// A thread's right to take items, until it is dropped.
pub(super) struct Taker<T>(Arc<Queue<T>>);

impl<T> Taker<T> {
    /// One more taker of `queue`.
    pub(super) fn of(queue: &Arc<Queue<T>>) -> Self {
        queue.state().takers += 1;
        Self(Arc::clone(queue))
    }

    /// Waits for the next item; `None` when all are taken and no more come.
    pub(super) fn take(&self) -> Option<T> {
        let waits = |state: &mut State<T>| state.items.is_empty() && !state.closed;
        let state = self.0.changed.wait_while(self.0.state(), waits);
        state.unwrap_or_else(PoisonError::into_inner).items.pop_front()
    }
}

impl<T> Drop for Taker<T> {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.takers -= 1;
        let left = if state.takers == 0 { std::mem::take(&mut state.items) } else { VecDeque::new() };
        // Panics took them all: whoever waits for one of these items learns it now.
        drop(state);
        drop(left);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn every_item_is_taken_once_though_the_queue_was_closed_before() {
        let queue = Arc::new(Queue::default());
        let (taken, all) = mpsc::sync_channel(1000);
        let takers: Vec<_> = (0..3)
            .map(|_| {
                let (taker, taken) = (Taker::of(&queue), taken.clone());
                std::thread::spawn(move || {
                    std::iter::from_fn(|| taker.take()).for_each(|item| taken.send(item).unwrap())
                })
            })
            .collect();
        (0..1000).for_each(|item| queue.put(item));
        queue.close();
        takers.into_iter().for_each(|taker| taker.join().unwrap());
        drop(taken);
        let mut items: Vec<i32> = all.iter().collect();
        items.sort_unstable();
        assert_eq!(items, (0..1000).collect::<Vec<_>>());
    }

    #[test]
    fn an_item_that_nobody_will_take_is_dropped() {
        let queue = Arc::new(Queue::default());
        let (held, others) = (Arc::new(()), [Taker::of(&queue), Taker::of(&queue)]);
        queue.put(Arc::clone(&held));
        let [first, last] = others;
        drop(first);
        assert_eq!(Arc::strong_count(&held), 2, "another may take it");
        drop(last);
        assert_eq!(Arc::strong_count(&held), 1, "the last taker is gone");
        queue.put(Arc::clone(&held));
        assert_eq!(Arc::strong_count(&held), 1, "nobody is there");
    }
}
