//! What a request is told, without a scheduler: one token after the other, and the text at the end.

use defrost_model::{Constraint, TokenMask};

use super::toy::Toy;
use super::{Rhythm, Said, common};
use crate::GenerationTask;
use crate::generate::job::{Finish, ProducedToken};
use crate::generate::logprobs::logprobs;
use crate::generate::sampler::{Place, Seen, choose};

/// The completion of this number.
pub(super) fn alone(
    toy: &Toy,
    task: &GenerationTask,
    limit: usize,
    choice: usize,
    mut constraint: Option<Rhythm>,
) -> Said {
    let common = common(toy);
    let pieces = &common.pieces;
    let mut tokens = task.prompt.clone();
    let ends: Vec<u32> = if task.ignore_eos { Vec::new() } else { common.ends.clone() };
    let bytes = |id: u32| {
        let is_skipped = task.skip_special && pieces.is_special(id);
        if is_skipped { Vec::new() } else { pieces.bytes(id).to_vec() }
    };
    let mut text = Vec::new();
    // Each token, where its bytes begin, and what the model said.
    let mut told: Vec<(usize, ProducedToken)> = Vec::new();
    let mut finish = Finish::Length;
    while tokens.len() - task.prompt.len() < limit {
        let row = toy.logits(&tokens);
        let forced = constraint.as_mut().and_then(|it| it.forced().first().copied());
        let id = forced.unwrap_or_else(|| {
            let may_end = constraint.as_mut().is_none_or(Rhythm::may_end);
            let mask = constraint.as_mut().and_then(|it| it.mask().unwrap()).map(|mask| {
                let mut own = TokenMask::none(mask.vocab());
                mask.iter().for_each(|id| own.allow(id));
                ends.iter()
                    .chain(&task.stop_ids)
                    .for_each(|&id| if may_end { own.allow(id) } else { own.forbid(id) });
                own
            });
            let all_ends: Vec<u32> = ends.iter().chain(&task.stop_ids).copied().collect();
            let position = tokens.len() - task.prompt.len();
            let may_end = may_end && position >= task.min_tokens;
            let mut seen = Seen::new(&task.sampling, &task.prompt);
            tokens[task.prompt.len()..].iter().for_each(|&id| seen.push(id));
            let place = Place {
                sampling: &task.sampling,
                tokens: &tokens,
                seen: &seen,
                choice,
                position,
                allowed: mask.as_ref(),
                forbidden: if may_end { &[] } else { &all_ends },
            };
            choose(row.clone(), &place).unwrap()
        });
        tokens.push(id);
        let logprobs = task.logprobs.map(|most| logprobs(&row, id, most, pieces));
        let token = ProducedToken { id, logprobs };
        let by_name = |stop: &&String| {
            task.skip_special && pieces.is_special(id) && stop.as_bytes() == pieces.bytes(id)
        };
        let end = if ends.contains(&id) {
            Some(Finish::EndOfTurn(id))
        } else if task.stop_ids.contains(&id) {
            Some(Finish::StopToken(id))
        } else {
            task.stop.iter().find(by_name).cloned().map(Finish::StopText)
        };
        if let Some(end) = end {
            finish = end;
            if task.include_stop {
                told.push((text.len(), token));
                text.extend(pieces.bytes(id));
            }
            break;
        }
        if let Some(constraint) = &mut constraint {
            constraint.accept(id).unwrap();
        }
        let before = text.len();
        told.push((before, token));
        text.extend(bytes(id));
        let complete = (before + 1..=text.len()).find_map(|end| {
            let ends = |stop: &&String| text[..end].ends_with(stop.as_bytes());
            let longest = task.stop.iter().rev().filter(ends).max_by_key(|stop| stop.len());
            longest.map(|stop| (end, stop.clone()))
        });
        if let Some((end, stop)) = complete {
            text.truncate(if task.include_stop { end } else { end - stop.len() });
            let is_shown = |(begin, token): &(usize, ProducedToken)| {
                *begin < text.len() || begin + bytes(token.id).len() <= text.len()
            };
            let shown = told.iter().rposition(is_shown);
            let is_cut = !task.include_stop || end < before + bytes(id).len();
            if is_cut {
                told.truncate(shown.map_or(0, |at| at + 1));
            }
            finish = Finish::StopText(stop);
            break;
        }
        if constraint.as_mut().is_some_and(Rhythm::is_done) {
            finish = Finish::Complete;
            break;
        }
    }
    Said {
        text: String::from_utf8_lossy(&text).into_owned(),
        tokens: told.into_iter().map(|(_, token)| token).collect(),
        computed: tokens.len() - task.prompt.len(),
        finish: Some(finish),
        ..Said::default()
    }
}
