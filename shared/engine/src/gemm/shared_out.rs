//! Output that several threads write, each its own part.

use std::marker::PhantomData;

/// A mutable slice whose elements are written by several threads, each its own.
pub(crate) struct SharedOut<'a, T> {
    start: *mut T,
    len: usize,
    life: PhantomData<&'a mut [T]>,
}

#[allow(unsafe_code, reason = "disjoint strided writes from worker threads")]
mod access {
    use std::marker::PhantomData;

    use super::SharedOut;
    use crate::kernel::operands::OutRows;
    use crate::layout::PANEL;

    // SAFETY: the pointer comes from an exclusive borrow that outlives this value, and the methods below are the only
    // access; T is plain data sent between threads.
    unsafe impl<T: Send> Sync for SharedOut<'_, T> {}
    // SAFETY: as above.
    unsafe impl<T: Send> Send for SharedOut<'_, T> {}

    impl<'a, T: Copy> SharedOut<'a, T> {
        pub(crate) fn new(out: &'a mut [T]) -> Self {
            Self { start: out.as_mut_ptr(), len: out.len(), life: PhantomData }
        }

        /// Writes one element.
        ///
        /// # Safety
        /// No other task may write or hold the same element at the same time.
        pub(crate) unsafe fn write(&self, index: usize, value: T) {
            assert!(index < self.len, "write outside of the output");
            // SAFETY: in bounds of the exclusive borrow; alone by the caller's promise.
            unsafe { self.start.add(index).write(value) }
        }

        /// A run of elements.
        ///
        /// # Safety
        /// While the slice lives, no other task may hold a run that overlaps it.
        #[allow(clippy::mut_from_ref, reason = "exclusive by the contract above")]
        pub(crate) unsafe fn run(&self, start: usize, len: usize) -> &mut [T] {
            assert!(start.checked_add(len).is_some_and(|end| end <= self.len), "run outside");
            // SAFETY: in bounds of the exclusive borrow; disjoint by the caller's promise.
            unsafe { std::slice::from_raw_parts_mut(self.start.add(start), len) }
        }
    }

    impl SharedOut<'_, f32> {
        /// `rows` runs of a panel's width, `stride` apart from `first` on.
        ///
        /// # Safety
        /// While they live, no other task may hold a run that overlaps one of them.
        pub(crate) unsafe fn rows(&self, first: usize, stride: usize, rows: usize) -> OutRows<'_> {
            let end = rows.saturating_sub(1).saturating_mul(stride).saturating_add(first + PANEL);
            assert!(rows == 0 || end <= self.len, "rows outside of the output");
            // SAFETY: in bounds of the exclusive borrow; disjoint by the caller's promise.
            unsafe { OutRows::new(self.start.wrapping_add(first), stride, rows) }
        }
    }
}
