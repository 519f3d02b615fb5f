//! Log lines on stderr.

use std::borrow::Cow;
use std::io::IsTerminal as _;
use std::time::Duration;

use crate::config::{Config, LogFormat, log_filter};

/// A time in milliseconds, as log lines and answers tell it: to the microsecond.
pub(crate) fn ms(time: Duration) -> f64 {
    (time.as_secs_f64() * 1e6).round() / 1e3
}

/// A message without what it quotes: the first to the last quotation mark may be a client's text,
/// and texts are in no log.
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
    let Ok(filter) = log_filter(&config.log_level) else {
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
