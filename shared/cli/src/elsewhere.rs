//! Arguments that mean nothing beside others: about a model in this process beside `--url`, about a function without it,
//! about files of rows without `--in`.
//!
//! An argument that is dropped without a word is a wish that looks granted. So each one is refused by name, where it was
//! given on the command line; what the environment says is there for other commands too, and is let pass. The parser's own
//! rules do not say all of this: they count what the environment says, and they let an argument go that requires another
//! one which the rest of the line rules out.
//!
//! Which arguments a command has is asked of the command: of its matches clap tells it in debug builds only, and in others
//! says of one that the command does not know that it was not given.

use clap::parser::ValueSource;
use clap::{ArgMatches, Command};

/// What is said about a model that this process would load, by the names of its arguments.
const OF_A_MODEL: [(&str, &str); 12] = [
    ("model", "--model"),
    ("batch_tokens", "--batch-tokens"),
    ("num_threads", "--num-threads"),
    ("dtype", "--dtype"),
    ("backend", "--backend"),
    ("ort_dylib_path", "--ort-dylib-path"),
    ("fast_boot", "--fast-boot"),
    ("verify", "--verify"),
    ("cache_dir", "--cache-dir"),
    ("cache_max_bytes", "--cache-max-bytes"),
    ("restore_timeout", "--restore-timeout"),
    ("restore_connections", "--restore-connections"),
];

/// What is said about a model that is the running function's own setting, and the name of that.
const OF_THE_FUNCTION: [(&str, &str, &str); 2] = [
    ("max_length", "--max-length", "MAX_LENGTH"),
    ("allow_non_mrl", "--allow-non-mrl", "ALLOW_NON_MRL"),
];

/// What is said about a function.
const OF_A_URL: [(&str, &str); 1] = [("api_key", "--api-key")];

/// What is said about files of rows.
const OF_ROWS: [(&str, &str); 10] = [
    ("out", "--out"),
    ("force", "--force"),
    ("id_field", "--id-field"),
    ("skip_bad", "--skip-bad"),
    ("shard", "--shard"),
    ("join", "--join"),
    ("part_tokens", "--part-tokens"),
    ("remove_parts", "--remove-parts"),
    ("query_field", "--query-field"),
    ("documents_field", "--documents-field"),
];

/// The first argument of a command that has no meaning beside the others.
pub(crate) fn meaningless(command: &Command, matches: &ArgMatches) -> Option<String> {
    let is_known = |id: &str| command.get_arguments().any(|argument| argument.get_id() == id);
    let source = |id: &str| if is_known(id) { matches.value_source(id) } else { None };
    let is_given = |id: &str| source(id) == Some(ValueSource::CommandLine);
    if is_known("input")
        && source("input").is_none()
        && let Some((_, flag)) = OF_ROWS.into_iter().find(|(id, _)| is_given(id))
    {
        return Some(format!(
            "{flag} is about a file of rows, and there is no --in that says which: give --in FILE --out FILE"
        ));
    }
    // A command that knows no other place than a function has a usual one.
    if !is_known("url") {
        return None;
    }
    if source("url").is_none() {
        let (_, flag) = OF_A_URL.into_iter().find(|(id, _)| is_given(id))?;
        return Some(format!(
            "{flag} is for a running function, and there is no --url that says where one is"
        ));
    }
    if let Some((_, flag)) = OF_A_MODEL.into_iter().find(|(id, _)| is_given(id)) {
        return Some(format!(
            "{flag} is about a model that this process loads, and --url asks a function that runs already: leave one of \
             them out"
        ));
    }
    let (_, flag, setting) = OF_THE_FUNCTION.into_iter().find(|(id, ..)| is_given(id))?;
    Some(format!(
        "{flag} beside --url: the running function has a setting of its own; start it with {setting}, and leave this out"
    ))
}
