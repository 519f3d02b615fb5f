//! Which manifests are valid; one list of rules for the writer's plans and for files from anywhere.

use std::collections::HashSet;

use crate::error::{Error, Kind, shown};
use crate::format::manifest::{Manifest, Segment, TensorEntry};
use crate::format::{
    CHUNK_RANGE, MAX_NAME, MAX_RANK, MAX_TAG, MAX_VALUE, PAGE, ROW_MAJOR, align_up,
    tensor_alignment,
};

impl Manifest {
    /// Checks everything that later code relies on: names, bounds, order, alignment, shapes, number of chunks.
    pub(crate) fn check(&self) -> Result<(), Error> {
        check_text("isa", &self.isa, MAX_TAG)?;
        for (key, value) in &self.meta {
            check_text("metadata key", key, MAX_NAME)?;
            if value.len() > MAX_VALUE {
                return Err(wrong(format!("the metadata value of {} is too long", shown(key)))
                    .mismatch(format_args!("at most {MAX_VALUE} bytes"), value.len()));
            }
        }
        if !CHUNK_RANGE.contains(&self.chunk_size) || !self.chunk_size.is_power_of_two() {
            return Err(wrong("impossible chunk size")
                .mismatch(format_args!("a power of two in {CHUNK_RANGE:?}"), self.chunk_size));
        }
        self.check_segments()?;
        self.check_tensors()?;
        let chunks = self.data_len.div_ceil(u64::from(self.chunk_size));
        if chunks != self.chunks.len() as u64 {
            return Err(wrong("wrong number of chunks").mismatch(chunks, self.chunks.len()));
        }
        Ok(())
    }

    fn check_segments(&self) -> Result<(), Error> {
        let mut names = HashSet::new();
        let mut end = self.data_offset;
        for segment in &self.segments {
            check_text("segment name", &segment.name, MAX_NAME)?;
            if !names.insert(&*segment.name) {
                return Err(wrong(format!("two segments are called {}", shown(&segment.name))));
            }
            let what = || format!("segment {}", shown(&segment.name));
            check_place(what, segment.offset, PAGE, end)?;
            end = end_of(what, segment.offset, segment.len)?;
        }
        let data_end = end_of(|| "the data region".to_owned(), self.data_offset, self.data_len)?;
        if align_up(end, PAGE) != Some(data_end) {
            return Err(wrong("the segments do not fill the data region")
                .mismatch(format_args!("an end less than one page before {data_end}"), end));
        }
        Ok(())
    }

    fn check_tensors(&self) -> Result<(), Error> {
        let mut names = HashSet::new();
        let (mut end, mut last_segment) = (self.data_offset, 0);
        for tensor in &self.tensors {
            check_text("tensor name", &tensor.name, MAX_NAME)?;
            check_text("layout", &tensor.layout, MAX_TAG)?;
            if !names.insert(&*tensor.name) {
                return Err(wrong(format!("two tensors are called {}", shown(&tensor.name))));
            }
            let Some(segment) =
                self.segments.get(tensor.segment).filter(|_| tensor.segment >= last_segment)
            else {
                return Err(wrong(format!("tensor {} names a wrong segment", shown(&tensor.name)))
                    .mismatch(
                        format_args!("{last_segment} to {}", self.segments.len()),
                        tensor.segment,
                    ));
            };
            last_segment = tensor.segment;
            end = check_tensor(tensor, segment, end)?;
        }
        Ok(())
    }
}

/// Checks one tensor that may start at `from` at the earliest; returns where it ends.
fn check_tensor(tensor: &TensorEntry, segment: &Segment, from: u64) -> Result<u64, Error> {
    let what = || format!("tensor {}", shown(&tensor.name));
    check_place(what, tensor.offset, tensor_alignment(tensor.len), from.max(segment.offset))?;
    let end = end_of(what, tensor.offset, tensor.len)?;
    if end > segment.offset.saturating_add(segment.len) {
        return Err(wrong(format!(
            "{} reaches beyond its segment {}",
            what(),
            shown(&segment.name)
        ))
        .at(tensor.offset)
        .mismatch(
            format_args!("an end up to {}", segment.offset.saturating_add(segment.len)),
            end,
        ));
    }
    if tensor.shape.len() > MAX_RANK {
        return Err(wrong(format!("{} has too many dimensions", what()))
            .mismatch(format_args!("at most {MAX_RANK}"), tensor.shape.len()));
    }
    if &*tensor.layout == ROW_MAJOR {
        let bytes = tensor
            .shape
            .iter()
            .try_fold(tensor.dtype.size() as u64, |product, &dim| product.checked_mul(dim as u64));
        if bytes != Some(tensor.len) {
            return Err(wrong(format!(
                "{} of shape {:?} and type {} has a wrong length",
                what(),
                tensor.shape,
                tensor.dtype
            ))
            .mismatch(
                bytes.map_or_else(|| "fewer than 2^64 bytes".to_owned(), |b| format!("{b} bytes")),
                tensor.len,
            ));
        }
    }
    Ok(end)
}

fn check_place(what: impl Fn() -> String, offset: u64, align: u64, from: u64) -> Result<(), Error> {
    if !offset.is_multiple_of(align) {
        return Err(wrong(format!("{} is not aligned", what()))
            .mismatch(format_args!("a multiple of {align}"), offset));
    }
    if offset < from {
        return Err(wrong(format!("{} overlaps what comes before it", what()))
            .mismatch(format_args!("an offset from {from}"), offset));
    }
    Ok(())
}

fn end_of(what: impl Fn() -> String, offset: u64, len: u64) -> Result<u64, Error> {
    offset.checked_add(len).ok_or_else(|| {
        wrong(format!("{} is too long", what()))
            .mismatch("an end below 2^64", format_args!("{offset}+{len}"))
    })
}

/// Names are shown in logs and listings, so control characters have no place in them.
fn check_text(what: &str, text: &str, longest: usize) -> Result<(), Error> {
    if text.is_empty() || text.len() > longest || text.chars().any(char::is_control) {
        return Err(wrong(format!("unusable {what}")).mismatch(
            format_args!("1 to {longest} bytes without control characters"),
            shown(text),
        ));
    }
    Ok(())
}

fn wrong(what: impl Into<String>) -> Error {
    Error::new(Kind::Corrupt, what)
}
