//! Log lines on stderr.

use std::borrow::Cow;
use std::io::IsTerminal as _;
use std::time::Duration;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

use crate::config::{Config, LogFormat};

/// Reads a level or a tracing filter.
///
/// A filter takes any word for the name of a module, all of whose lines it lets through: `wran` would silence everything
/// else. So each of its parts must end in a level.
pub(crate) fn filter(text: &str) -> Result<EnvFilter, String> {
    let expected = |found: &str| {
        format!(
            "expected error, warn, info, debug, trace, off, or levels of modules such as warn,hyper=debug; found {found:?}"
        )
    };
    let lower = text.to_ascii_lowercase();
    // Fields of spans have commas and equal signs of their own.
    if !lower.contains('[') {
        let parts = lower.split(',').map(str::trim).filter(|part| !part.is_empty());
        for part in parts {
            let level = part.rsplit_once('=').map_or(part, |(_, level)| level);
            if level.parse::<LevelFilter>().is_err() {
                return Err(expected(part));
            }
        }
    }
    EnvFilter::try_new(&lower).map_err(|_| expected(text))
}

/// A time in milliseconds, as log lines and answers tell it: to the microsecond.
pub(crate) fn ms(time: Duration) -> f64 {
    (time.as_secs_f64() * 1e6).round() / 1e3
}

/// A message without what it quotes: the first to the last quotation mark may be a client's text, and texts are in no log.
pub(crate) fn without_quotes(message: &str) -> Cow<'_, str> {
    match (message.find('"'), message.rfind('"')) {
        (Some(first), Some(last)) if first < last => {
            Cow::Owned(format!("{}\"…\"{}", &message[..first], &message[last + 1..]))
        }
        (Some(first), _) => Cow::Owned(format!("{}\"…", &message[..first])),
        _ => Cow::Borrowed(message),
    }
}

/// Starts logging; later calls in one process change nothing.
pub(crate) fn start(config: &Config) {
    let Ok(filter) = filter(&config.log_level) else {
        return;
    };
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal());
    let started = match config.log_format {
        LogFormat::Text => builder.with_target(false).try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
    drop(started);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_quoted_is_left_out() {
        for (message, logged) in [
            ("documents is missing", "documents is missing"),
            (
                r#"invalid type: string "a \"b\" c", expected a list"#,
                r#"invalid type: string "…", expected a list"#,
            ),
            (r#"string "cut…text", expected x; found "y" there"#, r#"string "…" there"#),
            (r#"string "cut…"#, r#"string "…"#),
            (r#""""#, r#""…""#),
        ] {
            assert_eq!(without_quotes(message), logged);
        }
    }

    #[test]
    fn times_are_rounded() {
        assert_eq!(ms(Duration::from_nanos(1_234_567)).to_string(), "1.235");
        assert_eq!(ms(Duration::ZERO).to_string(), "0");
    }
}
