use proptest::prelude::*;

use super::*;

/// Everything at once: what is shown, and the stop text that ends it.
fn reference(bytes: &[u8], stops: &[String], include_stop: bool) -> (String, Option<usize>) {
    let ends = |end: usize| {
        let complete = (0..stops.len()).filter(|&at| bytes[..end].ends_with(stops[at].as_bytes()));
        complete.rev().max_by_key(|&at| stops[at].len()).map(|at| (end, at))
    };
    let found = (1..=bytes.len()).find_map(ends);
    let shown = found.map_or(
        bytes.len(),
        |(end, at)| {
            if include_stop { end } else { end - stops[at].len() }
        },
    );
    (String::from_utf8_lossy(&bytes[..shown]).into_owned(), found.map(|(_, at)| at))
}

fn token(id: usize) -> ProducedToken {
    ProducedToken { id: u32::try_from(id).unwrap(), logprobs: None }
}

/// Runs a stream over tokens; the parts that it shows, and the stop text.
fn run(tokens: &[&[u8]], stops: &[String], include: bool) -> (Vec<Produced>, Option<usize>) {
    let mut stream = TextStream::new(stops, include);
    let mut parts = Vec::new();
    for (id, bytes) in tokens.iter().enumerate() {
        let Added { produced, stopped } = stream.push(token(id), bytes);
        parts.extend(produced);
        if stopped.is_some() {
            return (parts, stopped);
        }
    }
    parts.extend(stream.finish());
    (parts, None)
}

/// The bytes cut at these places, which may be equal: then a token is empty.
fn cut(bytes: &[u8], mut at: Vec<usize>) -> Vec<&[u8]> {
    for at in &mut at {
        *at %= bytes.len() + 1;
    }
    at.extend([0, bytes.len()]);
    at.sort_unstable();
    at.windows(2).map(|pair| &bytes[pair[0]..pair[1]]).collect()
}

/// Few letters, so that stop texts come, begin and come to nothing; characters of 1 to 4 bytes.
fn a_text() -> impl Strategy<Value = String> {
    "[abé中😀]{0,24}"
}

fn bytes() -> impl Strategy<Value = Vec<u8>> {
    let wild =
        prop::sample::select(vec![b'a', b'b', 0xc3, 0xa9, 0xe4, 0xb8, 0xad, 0xf0, 0x80, 0xff]);
    prop_oneof![a_text().prop_map(String::into_bytes), prop::collection::vec(wild, 0..24)]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3000))]

    #[test]
    fn any_cut_of_any_bytes_shows_the_same(
        bytes in bytes(),
        at in prop::collection::vec(any::<usize>(), 0..20),
        stops in prop::collection::vec("[abé中😀]{1,4}", 0..4),
        include in any::<bool>(),
    ) {
        let tokens = cut(&bytes, at);
        let (parts, stopped) = run(&tokens, &stops, include);
        let text: String = parts.iter().map(|part| part.text.as_str()).collect();
        prop_assert_eq!((text, stopped), reference(&bytes, &stops, include));
    }

    /// Tokens come in order, each once, when their last byte is shown and no earlier; those of a stop text never come.
    #[test]
    fn tokens_come_with_their_text(
        text in a_text(),
        at in prop::collection::vec(any::<usize>(), 0..20),
        stops in prop::collection::vec("[abé]{1,4}", 0..3),
    ) {
        let tokens = cut(text.as_bytes(), at);
        let (parts, stopped) = run(&tokens, &stops, false);
        let ends: Vec<usize> = tokens
            .iter()
            .scan(0, |end, bytes| { *end += bytes.len(); Some(*end) })
            .collect();
        let whole: usize = parts.iter().map(|part| part.text.len()).sum();
        let (mut shown, mut next) = (0, 0);
        for part in &parts {
            prop_assert!(!part.text.is_empty() || !part.tokens.is_empty());
            shown += part.text.len();
            for token in &part.tokens {
                prop_assert_eq!(token.id as usize, next);
                let is_cut = stopped.is_some() && shown == whole;
                prop_assert!(ends[next] <= shown || is_cut);
                next += 1;
            }
            // Nothing that could have come is kept; a token without bytes may not have been there yet.
            let is_later = |&end: &usize| end > shown || tokens[next].is_empty();
            prop_assert!(ends.get(next).is_none_or(is_later) || stopped.is_some());
        }
        let begins = |id: usize| if id == 0 { 0 } else { ends[id - 1] };
        let expected = if stopped.is_none() {
            tokens.len()
        } else {
            (0..tokens.len()).take_while(|&id| begins(id) < whole || ends[id] <= whole).count()
        };
        prop_assert_eq!(next, expected);
    }

    /// What is not shown at once is a beginning of a stop text or of a character.
    #[test]
    fn nothing_is_held_back_without_a_reason(
        text in a_text(),
        stops in prop::collection::vec("[abé]{1,4}", 0..3),
    ) {
        let mut stream = TextStream::new(&stops, false);
        let mut shown = 0;
        for (at, byte) in text.bytes().enumerate() {
            let Added { produced, stopped } = stream.push(token(at), &[byte]);
            shown += produced.map_or(0, |part| part.text.len());
            if stopped.is_some() {
                return Ok(());
            }
            let held = &text.as_bytes()[shown..=at];
            let begins = |from: usize| stops.iter().any(|stop| stop.as_bytes().starts_with(&held[from..]));
            let is_half = |to: usize| std::str::from_utf8(&held[..to]).is_err_and(|error| {
                error.valid_up_to() == 0 && error.error_len().is_none()
            });
            let reason = held.is_empty()
                || begins(0)
                || is_half(held.len())
                || (1..held.len()).any(|from| begins(from) && is_half(from));
            prop_assert!(reason, "{held:?} of {text:?}");
        }
    }
}
