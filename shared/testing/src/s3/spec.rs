//! Rules as text, for the command line: `FAULT[:ARGUMENT]@WHEN[@WHICH]`.
//!
//! `reset:4096@attempt=1@gets-from=8388608` resets the first attempt of every range behind 8 MiB
//! after 4096 bytes; `slow-down@per-mille=10,7` throttles one GET in a hundred, drawn from seed 7.
//! Names are those of the variants of [`Fault`], [`When`] and [`Which`], in lower case with dashes.
//! Without a `WHICH` it is `gets`.

use std::error::Error;
use std::fmt;
use std::str::FromStr;

use super::{Fault, Rule, When, Which};

/// A rule that could not be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpecError(String);

impl fmt::Display for SpecError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Error for SpecError {}

impl FromStr for Rule {
    type Err = SpecError;

    fn from_str(spec: &str) -> Result<Self, SpecError> {
        let mut parts = spec.splitn(3, '@');
        let (fault, when) = (parts.next().unwrap_or_default(), parts.next());
        let when = when.ok_or_else(|| SpecError(format!("`{spec}` lacks an `@WHEN`")))?;
        let on = parts.next().map_or(Ok(Which::Gets), which)?;
        Ok(Self { on, when: self::when(when)?, fault: self::fault(fault)? })
    }
}

/// A name and the numbers behind it.
struct Word<'a> {
    text: &'a str,
    name: &'a str,
    argument: Option<&'a str>,
}

impl<'a> Word<'a> {
    fn new(text: &'a str, separator: char) -> Self {
        match text.split_once(separator) {
            Some((name, argument)) => Self { text, name, argument: Some(argument) },
            None => Self { text, name: text, argument: None },
        }
    }

    fn number<T: FromStr>(&self) -> Result<T, SpecError> {
        self.argument
            .and_then(|argument| argument.parse().ok())
            .ok_or_else(|| SpecError(format!("`{}` needs a number", self.text)))
    }

    fn unknown<T>(&self, what: &str) -> Result<T, SpecError> {
        Err(SpecError(format!("`{}` is not a known {what}", self.text)))
    }
}

fn fault(text: &str) -> Result<Fault, SpecError> {
    let word = Word::new(text, ':');
    Ok(match (word.name, word.argument) {
        ("status", _) => Fault::Status(word.number()?),
        ("stall-after", _) => Fault::StallAfter(word.number()?),
        ("short-body", _) => Fault::ShortBody(word.number()?),
        ("reset", _) => Fault::Reset(word.number()?),
        ("short-length", _) => Fault::ShortLength(word.number()?),
        ("flip-bit", _) => Fault::FlipBit { at: word.number()? },
        ("slow-down", None) => Fault::SlowDown,
        ("denied", None) => Fault::Denied,
        ("missing", None) => Fault::Missing,
        ("redirect-307", None) => Fault::Redirect307,
        ("stall", None) => Fault::Stall,
        ("hangup", None) => Fault::Hangup,
        ("garbage", None) => Fault::Garbage,
        ("whole-200", None) => Fault::Whole200,
        ("wrong-range", None) => Fault::WrongRange,
        ("wrong-content-range-header", None) => Fault::WrongContentRangeHeader,
        ("no-content-range", None) => Fault::NoContentRange,
        ("new-version", None) => Fault::NewVersion,
        ("silent-new-version", None) => Fault::SilentNewVersion,
        _ => return word.unknown("fault"),
    })
}

fn when(text: &str) -> Result<When, SpecError> {
    let word = Word::new(text, '=');
    Ok(match (word.name, word.argument) {
        ("always", None) => When::Always,
        ("nth", _) => When::Nth(word.number()?),
        ("from", _) => When::From(word.number()?),
        ("first-n", _) => When::FirstN(word.number()?),
        ("every", _) => When::Every(word.number()?),
        ("attempt", _) => When::Attempt(word.number()?),
        ("first-attempts", _) => When::FirstAttempts(word.number()?),
        ("per-mille", Some(argument)) => {
            let (p, seed) = argument.split_once(',').unwrap_or((argument, "0"));
            let (Ok(p), Ok(seed)) = (p.parse(), seed.parse()) else {
                return Err(SpecError(format!("`{text}` is not `per-mille=P,SEED`")));
            };
            When::PerMille { p, seed }
        }
        _ => return word.unknown("time"),
    })
}

fn which(text: &str) -> Result<Which, SpecError> {
    let word = Word::new(text, '=');
    Ok(match (word.name, word.argument) {
        ("any", None) => Which::Any,
        ("gets", None) => Which::Gets,
        ("ranged-gets", None) => Which::RangedGets,
        ("gets-from", _) => Which::GetsFrom(word.number()?),
        ("gets-touching", _) => Which::GetsTouching(word.number()?),
        ("key", Some(key)) => Which::Key(key.to_owned()),
        ("method", Some(method)) => Which::Method(method.to_owned()),
        _ => return word.unknown("kind of request"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules() {
        for (spec, on, when, fault) in [
            ("stall@always", Which::Gets, When::Always, Fault::Stall),
            ("status:500@nth=3", Which::Gets, When::Nth(3), Fault::Status(500)),
            (
                "reset:4096@attempt=1@gets-from=8",
                Which::GetsFrom(8),
                When::Attempt(1),
                Fault::Reset(4096),
            ),
            (
                "flip-bit:9@per-mille=10,7@key=a@b=c",
                Which::Key("a@b=c".into()),
                When::PerMille { p: 10, seed: 7 },
                Fault::FlipBit { at: 9 },
            ),
        ] {
            assert_eq!(spec.parse(), Ok(Rule { on, when, fault }), "{spec}");
        }
        for (spec, message) in [
            ("stall", "`stall` lacks an `@WHEN`"),
            ("burn@always", "`burn` is not a known fault"),
            ("stall:3@always", "`stall:3` is not a known fault"),
            ("reset@always", "`reset` needs a number"),
            ("reset:-1@always", "`reset:-1` needs a number"),
            ("stall@sometimes", "`sometimes` is not a known time"),
            ("stall@per-mille=x", "`per-mille=x` is not `per-mille=P,SEED`"),
            ("stall@always@none", "`none` is not a known kind of request"),
        ] {
            assert_eq!(spec.parse::<Rule>().unwrap_err().to_string(), message);
        }
    }
}
