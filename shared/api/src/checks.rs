//! Checks that several shapes share: counts, bounded texts, options that must agree.

use crate::error::Invalid;
use crate::lenient::{Count, Text};

/// A number that may not be negative.
pub(crate) fn natural(field: &str, value: Option<Count>) -> Result<Option<usize>, Invalid> {
    value
        .map(|Count(value)| {
            usize::try_from(value).map_err(|_| {
                Invalid::new(
                    field,
                    format!("{field}: expected 0 (no limit) or more, found {value}"),
                )
            })
        })
        .transpose()
}

/// Zero means no limit, as in vLLM.
pub(crate) fn token_limit(field: &str, value: Option<Count>) -> Result<Option<usize>, Invalid> {
    Ok(natural(field, value)?.filter(|&limit| limit > 0))
}

/// A list of 1 to `max` elements; `setting` is what raises `max`.
pub(crate) fn counted<T>(
    key: &str,
    list: Option<Vec<T>>,
    max: usize,
    setting: &str,
) -> Result<Vec<T>, Invalid> {
    let list = list.ok_or_else(|| Invalid::new(key, format!("{key} is missing")))?;
    if (1..=max).contains(&list.len()) {
        return Ok(list);
    }
    let message = format!("{key}: expected 1 to {max} ({setting}), found {}", list.len());
    Err(if list.is_empty() { Invalid::empty(key, message) } else { Invalid::new(key, message) })
}

/// A text of 1 to `max_chars` characters that are not all white space.
pub(crate) fn bounded(
    param: &str,
    text: Option<Text>,
    max_chars: usize,
    setting: &str,
) -> Result<String, Invalid> {
    let Some(Text(text)) = text else {
        return Err(Invalid::new(param, format!("{param} is missing")));
    };
    if text.trim().is_empty() {
        return Err(Invalid::empty(
            param,
            format!("{param}: expected a text, found only white space"),
        ));
    }
    // A character takes at least one byte, so short texts need no counting.
    if text.len() > max_chars {
        let chars = text.chars().count();
        if chars > max_chars {
            return Err(Invalid::new(
                param,
                format!(
                    "{param}: at most {max_chars} characters are allowed ({setting}), found {chars}"
                ),
            ));
        }
    }
    Ok(text)
}

/// One option under several names: whichever was sent, or an error when two say different things.
pub(crate) fn agreed<T: PartialEq>(
    asked: impl IntoIterator<Item = (&'static str, Option<T>)>,
) -> Result<Option<T>, Invalid> {
    let mut chosen: Option<(&str, T)> = None;
    for (field, wanted) in asked {
        match (&chosen, wanted) {
            (_, None) => {}
            (None, Some(wanted)) => chosen = Some((field, wanted)),
            (Some((_, have)), Some(wanted)) if *have == wanted => {}
            (Some((first, _)), Some(_)) => return Err(contradiction(first, field)),
        }
    }
    Ok(chosen.map(|(_, wanted)| wanted))
}

/// Two fields that cannot both be meant.
pub(crate) fn contradiction(first: &str, second: &str) -> Invalid {
    Invalid::new(
        second,
        format!("{first} and {second} contradict each other; send only one of them"),
    )
}
