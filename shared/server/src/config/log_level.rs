//! `LOG_LEVEL`: which lines are logged.

use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

/// Reads a level or a tracing filter.
///
/// A filter takes any word for the name of a module, all of whose lines it lets through: `wran`
/// would silence everything else. So each of its parts must end in a level.
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
