//! Settings from flags, variables and defaults.

use std::time::Duration;

use defrost_loader::VerifyMode;
use defrost_server::{Action, ConfigError, ReturnData, SETTINGS};
use defrost_tasks::ScoreScale;

use super::toy::{config, parse, parse_as};

fn errors(args: &[&str], vars: &[(&str, &str)]) -> Vec<String> {
    match parse(args, vars) {
        Err(ConfigError::Usage(errors)) => errors,
        other => panic!("usage errors expected, found {other:?}"),
    }
}

#[test]
fn defaults() {
    let config = config(&[]);
    assert_eq!((config.host.as_str(), config.port), ("127.0.0.1", 8000));
    assert!(config.fast_boot && !config.strict_model);
    assert_eq!((config.max_batch_tokens, config.max_documents), (2048, 1000));
    assert_eq!(config.max_body_bytes, 10 << 20);
    assert_eq!((config.num_threads, config.max_length, config.default_top_n), (None, None, None));
    assert_eq!((config.verify, config.return_data), (VerifyMode::Stamped, ReturnData::Auto));
    assert_eq!(config.normalization, None);
    assert_eq!(config.cors_origins, ["*"]);
    assert!(config.api_keys.is_empty());
}

#[test]
fn flag_beats_variable_beats_alias_beats_default() {
    let of = |args: &[&str], vars: &[(&str, &str)]| match parse(args, vars) {
        Ok(Action::Serve(config)) => (config.model, config.port),
        other => panic!("{other:?}"),
    };
    assert_eq!(
        of(&["--model", "f", "--port", "1"], &[("MODEL", "v"), ("PORT", "2")]),
        ("f".into(), 1)
    );
    assert_eq!(of(&[], &[("MODEL", "v"), ("MODEL_ID", "a"), ("PORT", "2")]), ("v".into(), 2));
    assert_eq!(
        of(&[], &[("MODEL_PATH", "p"), ("MODEL_ID", "a"), ("PORT", "")]),
        ("a".into(), 8000)
    );
    assert_eq!(of(&[], &[("DEFROST_MODEL", "d")]), ("d".into(), 8000));
    assert_eq!(of(&[], &[("MODEL", " "), ("MODEL_NAME", "n")]), ("n".into(), 8000));
}

#[test]
fn names_of_other_services_are_read() {
    assert_eq!(config(&[("MAX_CONCURRENT", "7")]).max_queue, 7);
    assert_eq!(config(&[("MAX_CONCURRENT_REQUESTS", "8"), ("MAX_CONCURRENT", "9")]).max_queue, 9);
    assert_eq!(config(&[("MAX_BATCH_SIZE", "32")]).embed.limits.max_batch, 32);
}

/// C19: the settings of a tier of an older service, without the name of the tier, and those of vLLM.
#[test]
fn settings_of_chat_are_read() {
    let chat = config(&[]).chat;
    assert_eq!((chat.context_length, chat.kv_tokens, chat.max_tokens), (None, None, None));
    assert_eq!((chat.temperature, chat.top_p, chat.top_k), (None, None, None));
    assert_eq!((chat.max_running, chat.keep_alive), (32, Duration::from_secs(10)));
    let given = config(&[
        ("N_CTX", "4096"),
        ("KV_TOKENS", "9000"),
        ("N_BATCH", "512"),
        ("N_THREADS", "3"),
        ("MAX_NUM_SEQS", "5"),
        ("MAX_TOKENS", "64"),
        ("TEMPERATURE", "0"),
        ("TOP_P", "0.9"),
        ("TOP_K", "40"),
        ("MIN_P", "0.05"),
        ("REPETITION_PENALTY", "1.1"),
        ("KEEP_ALIVE", "0"),
    ]);
    assert_eq!((given.max_batch_tokens, given.num_threads), (512, Some(3)));
    let chat = given.chat;
    assert_eq!((chat.context_length, chat.kv_tokens), (Some(4096), Some(9000)));
    assert_eq!((chat.max_running, chat.max_tokens), (5, Some(64)));
    assert_eq!((chat.temperature, chat.top_p, chat.top_k), (Some(0.0), Some(0.9), Some(40)));
    assert_eq!((chat.min_p, chat.repeat_penalty), (Some(0.05), Some(1.1)));
    assert_eq!(chat.keep_alive, Duration::ZERO);
    for (name, value, expected) in [
        ("TEMPERATURE", "-1", "from 0 to 100"),
        ("TEMPERATURE", "NaN", "from 0 to 100"),
        ("TOP_P", "0", "above 0 to 1"),
        ("MIN_P", "1.5", "from 0 to 1"),
        ("REPEAT_PENALTY", "0", "above 0 to 100"),
    ] {
        let found = errors(&[], &[("MODEL", "m"), (name, value)]);
        assert_eq!(found, [format!("{name}: expected a number {expected}, found {value:?}")]);
    }
}

#[test]
fn values_are_read() {
    let config = config(&[
        ("FAST_BOOT", "0"),
        ("VERIFY", "on-the-fly"),
        ("NORMALIZATION", "mxbai"),
        ("BOOT_TIMEOUT", "1.5"),
        ("SERVED_MODEL_NAME", "a, b,,c"),
        ("CORS_ORIGINS", "none"),
        ("NUM_THREADS", "3"),
    ]);
    assert!(!config.fast_boot);
    assert_eq!(config.verify, VerifyMode::OnTheFly);
    assert_eq!(config.normalization, Some(ScoreScale::Mxbai));
    assert_eq!(config.boot_timeout, Duration::from_millis(1500));
    assert_eq!(config.served_model_name, ["a", "b", "c"]);
    assert!(config.cors_origins.is_empty());
    assert_eq!(config.num_threads, Some(3));
}

#[test]
fn all_mistakes_are_reported_at_once() {
    let errors = errors(
        &[],
        &[
            ("PORT", "70000"),
            ("FAST_BOOT", "perhaps"),
            ("VERIFY", "never"),
            ("MAX_DOCUMENTS", "0"),
            ("BOOT_TIMEOUT", "-1"),
            ("BACKEND", "candle"),
            ("LOG_LEVEL", "a=b=c"),
            ("CORS_ORIGINS", "a\nb"),
            ("DEFROST_MAX_LENGHT", "3"),
        ],
    );
    for name in [
        "PORT:",
        "FAST_BOOT:",
        "VERIFY:",
        "MAX_DOCUMENTS:",
        "BOOT_TIMEOUT:",
        "BACKEND:",
        "LOG_LEVEL:",
        "CORS_ORIGINS:",
        "DEFROST_MAX_LENGHT:",
        "MODEL:",
    ] {
        assert!(errors.iter().any(|error| error.starts_with(name)), "{name} in {errors:?}");
    }
    assert_eq!(errors.len(), 10, "{errors:?}");
    assert!(errors.iter().all(|error| !error.contains('\n')));
}

#[test]
fn numbers_out_of_range_name_the_limits() {
    let found = errors(&["--port", "x"], &[("MODEL", "m")]);
    assert_eq!(found, ["PORT: expected a whole number from 0 to 65535, found \"x\""]);
}

#[test]
fn unknown_flags_are_one_line() {
    let found = errors(&["--prot", "1"], &[("MODEL", "m")]);
    assert_eq!(found.len(), 1);
    assert!(found[0].contains("--prot") && !found[0].contains('\n'), "{found:?}");
}

#[test]
fn help_lists_every_setting_of_the_function() {
    for kind in ["rerank", "embed", "chat"] {
        let Err(ConfigError::Info(help)) = parse_as(kind, &["--help"], &[]) else {
            panic!("help expected")
        };
        for setting in SETTINGS {
            // Toys have no device; that functions with one list these, their own tests say.
            let is_listed = setting.of.is_none_or(|of| of == kind) && !setting.gpu;
            let flag = format!("--{} <", setting.flag());
            assert_eq!(help.contains(&flag), is_listed, "{kind}: {}", setting.name);
            assert_eq!(help.contains(setting.help), is_listed, "{kind}: {}", setting.name);
        }
        assert!(help.contains("healthcheck"));
    }
    let Err(ConfigError::Info(version)) = parse(&["--version"], &[]) else {
        panic!("version expected")
    };
    assert_eq!(version, "toy 1.2.3\n");
}

#[test]
fn the_summary_hides_secrets() {
    let summary = config(&[("API_KEY", "hush-hush"), ("PORT", "7")]).summary();
    assert!(
        summary.contains("PORT=7")
            && summary.contains("MODEL=toy")
            && summary.contains("API_KEYS=(hidden)")
    );
    assert!(!summary.contains("hush-hush"));
}

#[test]
fn healthcheck_needs_no_model() {
    let Ok(Action::Healthcheck { host, port }) =
        parse(&["healthcheck"], &[("HOST", "0.0.0.0"), ("PORT", "81")])
    else {
        panic!("a health check expected");
    };
    assert_eq!((host.as_str(), port), ("127.0.0.1", 81));
    let Ok(Action::Healthcheck { port, .. }) = parse(&["healthcheck", "--port", "82"], &[]) else {
        panic!("a health check expected");
    };
    assert_eq!(port, 82);
    assert_eq!(errors(&["healthcheck"], &[("PORT", "0")]).len(), 1);
}

/// The table between the markers of docs/settings.md is this table.
#[test]
fn the_page_of_settings_lists_every_one() {
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/settings.md");
    let text = std::fs::read_to_string(page).expect("docs/settings.md");
    let (_, table) = text.split_once("<!-- settings -->").expect("a marked table in the page");
    let table = table.split("<!-- /settings -->").next().unwrap_or_default();
    let found: Vec<&str> = table.lines().filter(|line| line.starts_with("| `")).collect();
    let rows: Vec<String> = SETTINGS.iter().map(defrost_server::Setting::markdown_row).collect();
    assert_eq!(found, rows, "write this table into docs/settings.md:\n{}", rows.join("\n"));
}

/// D19: a filter takes any word for the name of a module, so a mistyped level would log everything
/// or nothing.
#[test]
fn mistyped_levels_are_told() {
    for (level, word) in [
        ("wran", "wran"),
        ("information", "information"),
        ("info,hyper", "hyper"),
        ("hyper=wran", "hyper=wran"),
        ("defrost_server=debug,wran", "wran"),
    ] {
        let [error] = &errors(&[], &[("MODEL", "m"), ("LOG_LEVEL", level)])[..] else {
            panic!("one error for {level}")
        };
        assert!(
            error.starts_with("LOG_LEVEL: expected error, warn, info, debug, trace"),
            "{error}"
        );
        assert!(error.contains(&format!("{word:?}")), "{error}");
    }
    for level in
        ["WARN", "off", "warn,hyper=debug", "info,defrost_server::lambda=trace", "error,a=off"]
    {
        assert_eq!(config(&[("LOG_LEVEL", level)]).log_level, level);
    }
}
