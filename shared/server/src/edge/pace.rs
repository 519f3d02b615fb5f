//! How slow a client may be: bodies that drip in and answers that are not read do not hold their
//! memory for ever.
//!
//! A transfer may take [`GRACE`], and beside it a second for every [`SLOWEST`] bytes that it has
//! moved. A client that does nothing is cut after the grace, one that drips a byte a second a
//! moment later, and one on a slow uplink has all the time that its speed needs. One rule for both
//! directions.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::rt::{Read, ReadBufCursor, Write};
use tokio::time::{Instant, Sleep, sleep_until};

/// A pause that any client may make: a phone that changes its network, a garbage collection, a
/// proxy's buffer.
pub(crate) const GRACE: Duration = Duration::from_secs(30);

/// Bytes a second of the slowest client: half a megabit, a tenth of a weak mobile uplink.
pub(crate) const SLOWEST: usize = 64 << 10;

/// A transfer that has begun.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pace {
    began: Instant,
    moved: usize,
}

impl Pace {
    pub(crate) fn begin() -> Self {
        Self { began: Instant::now(), moved: 0 }
    }

    pub(crate) fn moved(&mut self, bytes: usize) {
        self.moved = self.moved.saturating_add(bytes);
    }

    /// Bytes that have moved.
    pub(crate) fn bytes(&self) -> usize {
        self.moved
    }

    /// When it is too slow, unless more moves.
    pub(crate) fn deadline(&self) -> Instant {
        self.began + GRACE + Duration::from_secs((self.moved / SLOWEST) as u64)
    }
}

/// A connection that is given up when its client takes an answer too slowly.
///
/// A write that has to wait begins a transfer, and the flush after everything was written ends it.
#[derive(Debug)]
pub(crate) struct Paced<T> {
    io: T,
    writing: Option<Writing>,
}

#[derive(Debug)]
struct Writing {
    pace: Pace,
    timer: Pin<Box<Sleep>>,
}

impl<T> Paced<T> {
    pub(crate) fn new(io: T) -> Self {
        Self { io, writing: None }
    }

    /// Passes the result of a write on, or an error instead of waiting for too long.
    fn watched(
        &mut self,
        cx: &mut Context<'_>,
        written: Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        match written {
            Poll::Ready(Ok(bytes)) => {
                if let Some(Writing { pace, timer }) = &mut self.writing {
                    pace.moved(bytes);
                    timer.as_mut().reset(pace.deadline());
                }
                Poll::Ready(Ok(bytes))
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Pending => {
                let writing = self.writing.get_or_insert_with(|| {
                    let pace = Pace::begin();
                    Writing { pace, timer: Box::pin(sleep_until(pace.deadline())) }
                });
                match writing.timer.as_mut().poll(cx) {
                    Poll::Pending => Poll::Pending,
                    Poll::Ready(()) => Poll::Ready(Err(io::Error::new(
                        io::ErrorKind::TimedOut,
                        format!(
                            "the client took {} bytes of an answer in {} s, expected {SLOWEST} a second after the first {}",
                            writing.pace.moved,
                            writing.pace.began.elapsed().as_secs(),
                            GRACE.as_secs(),
                        ),
                    ))),
                }
            }
        }
    }
}

impl<T: Read + Unpin> Read for Paced<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buf)
    }
}

impl<T: Write + Unpin> Write for Paced<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write(cx, buf);
        self.watched(cx, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write_vectored(cx, bufs);
        self.watched(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.io).poll_flush(cx);
        if let Poll::Ready(Ok(())) = flushed {
            self.writing = None;
        }
        flushed
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use hyper_util::rt::TokioIo;
    use tokio::io::{AsyncReadExt as _, DuplexStream, duplex};

    use super::*;

    const PIPE: usize = 1 << 10;

    fn connection() -> (Paced<TokioIo<DuplexStream>>, DuplexStream) {
        let (ours, theirs) = duplex(PIPE);
        (Paced::new(TokioIo::new(ours)), theirs)
    }

    async fn write_all(io: &mut Paced<TokioIo<DuplexStream>>, mut left: usize) -> io::Result<()> {
        let bytes = vec![0; left];
        while left > 0 {
            left -= poll_fn(|cx| Pin::new(&mut *io).poll_write(cx, &bytes[..left])).await?;
        }
        poll_fn(|cx| Pin::new(&mut *io).poll_flush(cx)).await
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_nobody_reads_is_given_up() {
        let (mut io, _theirs) = connection();
        let begun = Instant::now();
        let error = write_all(&mut io, 10 * PIPE).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert!(error.to_string().contains("took 0 bytes"), "{error}");
        assert_eq!(begun.elapsed().as_secs(), GRACE.as_secs());
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_drips_is_given_up_too() {
        let (mut io, mut theirs) = connection();
        let drips = tokio::spawn(async move {
            while theirs.read_u8().await.is_ok() {
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        });
        let begun = Instant::now();
        assert!(write_all(&mut io, 10 * PIPE).await.is_err());
        assert!(begun.elapsed() < GRACE + Duration::from_secs(2));
        drop(io);
        drips.await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_is_slow_but_steady_has_all_the_time_it_needs() {
        let (mut io, mut theirs) = connection();
        let reads = tokio::spawn(async move {
            let (mut all, mut some) = (0, vec![0; PIPE]);
            // A little more than the slowest speed, for four times the grace.
            while all < 120 * SLOWEST {
                all += theirs.read(&mut some).await.unwrap();
                tokio::time::sleep(Duration::from_millis(15)).await;
            }
        });
        write_all(&mut io, 120 * SLOWEST).await.unwrap();
        reads.await.unwrap();
        // The next answer begins anew.
        let (mut other, _theirs) = connection();
        std::mem::swap(&mut io, &mut other);
        assert!(other.writing.is_none());
    }
}
