//! The settings, each once: this table makes the flags, the variables, `--help`, the start-up print
//! and, by a test, docs/settings.md.

/// One setting.
#[derive(Debug)]
pub struct Setting {
    /// Environment variable; the flag is the same in kebab-case.
    pub name: &'static str,
    /// Other names for the same variable, used when `name` is not set, first one first.
    pub aliases: &'static [&'static str],
    /// Value used when nothing is set, written as one would set it; empty: none.
    pub default: &'static str,
    /// The default of functions whose models a GPU runs, where that is another.
    pub default_on_gpu: Option<&'static str>,
    /// What kind of value it takes.
    pub value: &'static str,
    /// One line of explanation.
    pub help: &'static str,
    /// Whether its value is a secret, which is never printed.
    pub secret: bool,
    /// The one kind of function that lists it; `None`: all do.
    pub of: Option<&'static str>,
    /// Whether only functions that can use a GPU list and read it.
    pub gpu: bool,
}

impl Setting {
    /// `MAX_LENGTH` as `max-length`.
    pub fn flag(&self) -> String {
        self.name.to_ascii_lowercase().replace('_', "-")
    }

    /// The value used when nothing is set by functions whose models a GPU runs, or by others.
    pub fn default_of(&self, gpu: bool) -> &'static str {
        self.default_on_gpu.filter(|_| gpu).unwrap_or(self.default)
    }

    /// The setting's row in docs/settings.md: name, default, meaning.
    pub fn markdown_row(&self) -> String {
        let default =
            if self.default.is_empty() { String::new() } else { format!("`{}`", self.default) };
        let on_gpu =
            self.default_on_gpu.map_or_else(String::new, |other| format!(", gpu: `{other}`"));
        let of = self.of.map_or_else(String::new, |kind| format!("{kind}: "));
        let of = if self.gpu { "gpu: " } else { &*of };
        format!("| `{}` | {default}{on_gpu} | {of}{} |", self.name, self.help)
    }
}

const fn setting(
    name: &'static str,
    value: &'static str,
    default: &'static str,
    help: &'static str,
) -> Setting {
    Setting {
        name,
        aliases: &[],
        default,
        default_on_gpu: None,
        value,
        help,
        secret: false,
        of: None,
        gpu: false,
    }
}

/// A setting that only functions list which can use a GPU.
const fn of_gpu(
    name: &'static str,
    value: &'static str,
    default: &'static str,
    help: &'static str,
) -> Setting {
    Setting { gpu: true, ..setting(name, value, default, help) }
}

/// A setting that only functions which embed list.
const fn of_embed(
    name: &'static str,
    value: &'static str,
    default: &'static str,
    help: &'static str,
) -> Setting {
    Setting { of: Some("embed"), ..setting(name, value, default, help) }
}

/// A setting that only functions which rerank list.
const fn of_rerank(
    name: &'static str,
    value: &'static str,
    default: &'static str,
    help: &'static str,
) -> Setting {
    Setting { of: Some("rerank"), ..setting(name, value, default, help) }
}

/// A setting that only functions which generate list.
const fn of_chat(
    name: &'static str,
    value: &'static str,
    default: &'static str,
    help: &'static str,
) -> Setting {
    Setting { of: Some("chat"), ..setting(name, value, default, help) }
}

/// Every setting of a function binary.
///
/// Defaults that are numbers: `MAX_BATCH_TOKENS` is four 512-token pairs, enough rows to fill the
/// int8 kernels while the activations stay in the cache; on a GPU 32 of them, whose 128 rows of
/// tiles give each multiprocessor of the largest card several, at 30 KB a token of a 0.5B model. `MAX_DOCUMENTS` is what Voyage allows.
/// `MAX_INPUTS` is what OpenAI allows, `MAX_TEXTS` and `MAX_BATCH` what the services of these
/// shapes do. `MAX_BODY_BYTES` holds 1,000 documents of 10,000 characters. `MAX_QUEUE` times the
/// time of a typical request (0.5 s) is about the minute after which clients give up. The answers'
/// cache has the numbers of the service whose names it uses. `BOOT_TIMEOUT` covers a slow first
/// restore and stays below the 300 s at which Cloud Run cuts a request. `SHUTDOWN_GRACE` is shorter
/// than the 10 s Cloud Run leaves after SIGTERM. `RESTORE_TIMEOUT` and `RESTORE_CONNECTIONS` are
/// the loader's defaults, justified there. `MAX_RUNNING` is the scheduler's own number: a step
/// reads all weights once for all of them. `KEEP_ALIVE` is well below the 30 to 60 s after which proxies and load
/// balancers give a silent answer up.
pub const SETTINGS: &[Setting] = &[
    Setting {
        aliases: &["MODEL_ID", "MODEL_NAME", "MODEL_PATH"],
        ..setting(
            "MODEL",
            "PLACE",
            "",
            "snapshot to serve: a path or s3://bucket/key (this or MODELS is required)",
        )
    },
    setting(
        "MODELS",
        "LIST",
        "",
        "several snapshots as name=place,…: the first is the default, the others are loaded when a request names them",
    ),
    setting("MODEL_ALIASES", "LIST", "", "further names of models in MODELS, as alias=name,…"),
    setting(
        "MODELS_MEMORY",
        "BYTES",
        "",
        "most that models of MODELS may take; the least recently used one goes first; default: 4/5 of the memory there is",
    ),
    setting(
        "LAZY_LOAD",
        "BOOL",
        "false",
        "load the model with the first request for it; false: at start",
    ),
    setting("HOST", "ADDRESS", "127.0.0.1", "address to listen on; images set 0.0.0.0"),
    setting("PORT", "NUMBER", "8000", "port to listen on; 0 picks a free one and logs it"),
    setting("PORT_FILE", "PATH", "", "write the port in use to this file"),
    setting(
        "FAST_BOOT",
        "BOOL",
        "true",
        "ready as early as possible; false: compile ONNX models for this processor, score one pair to warm up first",
    ),
    setting(
        "BACKEND",
        "NAME",
        "",
        "what must run the model: engine, or gpu, ort or candle where built in; default: what the snapshot is made for",
    ),
    setting(
        "DTYPE",
        "NAME",
        "",
        "precision that the snapshot must have: int8, bf16 or f32; on a GPU what is computed in: auto, bf16, f16 or int8 (candle: f32, bf16 or f16); default: whichever it has",
    ),
    of_gpu(
        "DEVICE",
        "NAME",
        "auto",
        "what runs the model: auto or cuda (the first card that is visible), or cuda:N",
    ),
    of_gpu("USE_FP16", "BOOL", "false", "compute in f16, as DTYPE=f16"),
    Setting {
        aliases: &["GPU_MEMORY_UTILIZATION"],
        ..of_gpu(
            "GPU_MEMORY_FRACTION",
            "FRACTION",
            "0.9",
            "part of the card's memory that may be used, weights included",
        )
    },
    setting(
        "ORT_DYLIB_PATH",
        "PATH",
        "",
        "ONNX Runtime's library or its folder, for snapshots of ONNX models; default: beside the binary, or the system's",
    ),
    Setting {
        aliases: &["N_THREADS"],
        ..setting(
            "NUM_THREADS",
            "NUMBER",
            "",
            "worker threads; default: physical cores within the cgroup's quota",
        )
    },
    setting(
        "MAX_LENGTH",
        "TOKENS",
        "",
        "most tokens of one query-document pair (mxbai: beside its template); default: the model's own",
    ),
    Setting {
        default_on_gpu: Some("16384"),
        aliases: &["N_BATCH"],
        ..setting(
            "MAX_BATCH_TOKENS",
            "TOKENS",
            "2048",
            "token budget of one forward pass; bounds memory, never changes scores",
        )
    },
    Setting {
        aliases: &["N_CTX", "MAX_MODEL_LEN"],
        ..of_chat(
            "CONTEXT_LENGTH",
            "TOKENS",
            "",
            "most tokens of one conversation, prompt and completion together; default: the model's own",
        )
    },
    of_chat(
        "KV_TOKENS",
        "TOKENS",
        "",
        "tokens of all conversations whose keys and values there is memory for; default: one of CONTEXT_LENGTH, in 1 GiB at most",
    ),
    Setting {
        aliases: &["MAX_NUM_SEQS", "N_PARALLEL"],
        ..of_chat("MAX_RUNNING", "NUMBER", "32", "most completions that are generated at once")
    },
    of_chat(
        "MAX_TOKENS",
        "TOKENS",
        "",
        "most tokens of a completion when a request does not say; default: what the context leaves",
    ),
    of_chat(
        "TEMPERATURE",
        "NUMBER",
        "",
        "temperature when a request does not say, 0 takes the likeliest token; default: the model's own, else 1",
    ),
    of_chat(
        "TOP_P",
        "FRACTION",
        "",
        "top_p when a request does not say; default: the model's own, else 1",
    ),
    of_chat(
        "TOP_K",
        "NUMBER",
        "",
        "top_k when a request does not say, 0 for all tokens; default: the model's own, else 0",
    ),
    of_chat(
        "MIN_P",
        "FRACTION",
        "",
        "min_p when a request does not say; default: the model's own, else 0",
    ),
    Setting {
        aliases: &["REPETITION_PENALTY"],
        ..of_chat(
            "REPEAT_PENALTY",
            "NUMBER",
            "",
            "repeat_penalty when a request does not say; default: the model's own, else 1",
        )
    },
    of_chat(
        "KEEP_ALIVE",
        "SECONDS",
        "10",
        "after so long without an event a stream has a comment, which keeps proxies from closing it; 0: none",
    ),
    of_rerank("MAX_DOCUMENTS", "NUMBER", "1000", "most documents of one request"),
    of_rerank(
        "MAX_PAIRS",
        "NUMBER",
        "100",
        "most pairs or passages on /rerank/batch and /rerank/query",
    ),
    setting(
        "MAX_TEXT_CHARS",
        "NUMBER",
        "",
        "most characters of a text in the BAAI shapes; default: 10000 to rerank, 50000 to embed",
    ),
    of_embed("MAX_INPUTS", "NUMBER", "2048", "most inputs of one request"),
    of_embed("MAX_TEXTS", "NUMBER", "100", "most texts in the BAAI shape"),
    Setting {
        aliases: &["MAX_BATCH_SIZE"],
        ..of_embed("MAX_BATCH", "NUMBER", "1024", "most texts on /embed_batch")
    },
    of_embed(
        "MAX_TEXT_LENGTH",
        "TOKENS",
        "8192",
        "most tokens of a text in the MLX shapes, let through as ten times as many characters",
    ),
    of_embed(
        "AUTO_TRUNCATE",
        "BOOL",
        "false",
        "cut over-long inputs of OpenAI's form when a request does not say; false: refuse them",
    ),
    of_embed("ALLOW_EMPTY_INPUT", "BOOL", "false", "empty texts have a vector too"),
    of_embed(
        "ALLOW_NON_MRL",
        "BOOL",
        "false",
        "shorten vectors of models that are not trained for it without a warning",
    ),
    Setting {
        aliases: &["EMBEDDING_DIMENSION"],
        ..of_embed(
            "DIMENSIONS",
            "NUMBER",
            "",
            "numbers of a vector when a request does not say; default: all that the model gives",
        )
    },
    setting("MAX_BODY_BYTES", "BYTES", "10485760", "most bytes of a request body"),
    setting(
        "MAX_BYTES_IN_FLIGHT",
        "BYTES",
        "",
        "most bytes that requests and answers hold together, at least 4 MAX_BODY_BYTES; default: a quarter of the memory there is",
    ),
    Setting {
        aliases: &["MAX_CONCURRENT", "MAX_CONCURRENT_REQUESTS"],
        ..setting("MAX_QUEUE", "NUMBER", "128", "most requests waiting, during boot and after")
    },
    setting("BOOT_TIMEOUT", "SECONDS", "120", "how long a request waits for the model to load"),
    setting(
        "REQUEST_TIMEOUT",
        "SECONDS",
        "0",
        "most time for one request, whatever its x-request-timeout header says; 0: no limit",
    ),
    setting(
        "SHUTDOWN_TIMEOUT",
        "SECONDS",
        "0",
        "exit with 0 after so long without a request but probes; 0: never",
    ),
    setting("SHUTDOWN_GRACE", "SECONDS", "9", "how long running requests may take after SIGTERM"),
    setting(
        "SNAPSHOT_HOOKS",
        "BOOL",
        "false",
        "routes that quiesce the server for a memory snapshot and wake it up, for local callers or with a key",
    ),
    setting(
        "INVOKE_MODE",
        "MODE",
        "buffered",
        "AWS Lambda: what the function URL's InvokeMode is, buffered or response_stream",
    ),
    setting("VERIFY", "MODE", "stamped", "when bytes are checked: stamped, on-the-fly or eager"),
    setting(
        "CACHE_DIR",
        "PATH",
        "",
        "where downloads, stamps and packed copies of portable snapshots are kept; default: ~/.cache/defrost, stamps beside a local snapshot",
    ),
    setting(
        "CACHE_MAX_BYTES",
        "BYTES",
        "",
        "most that downloads may take there; least recently used ones go first; default: no limit",
    ),
    setting("RESTORE_TIMEOUT", "SECONDS", "600", "how long a download may take"),
    setting("RESTORE_CONNECTIONS", "NUMBER", "32", "most requests of a download at once"),
    setting(
        "SERVED_MODEL_NAME",
        "LIST",
        "",
        "names to serve the model of MODEL under; default: the snapshot's",
    ),
    setting("STRICT_MODEL", "BOOL", "false", "refuse requests that name another model"),
    of_rerank(
        "DEFAULT_TOP_N",
        "NUMBER",
        "",
        "results returned when a request does not say; default: all",
    ),
    of_rerank(
        "NORMALIZATION",
        "NAME",
        "",
        "scores when a request does not say: sigmoid, raw or mxbai; default: the model's own",
    ),
    of_rerank(
        "RETURN_DATA",
        "NAME",
        "auto",
        "add the data array: auto (when the request may be Voyage's) or always",
    ),
    of_rerank(
        "LEGACY_RESULTS",
        "BOOL",
        "false",
        "results of reranking as an older service gave them: document as text, the raw score as score",
    ),
    Setting {
        aliases: &["API_KEY"],
        secret: true,
        ..setting("API_KEYS", "LIST", "", "keys that clients must send; default: no key needed")
    },
    setting(
        "API_KEYS_FILE",
        "PATH",
        "",
        "file of further keys, one a line, as secret stores mount them",
    ),
    setting("ENABLE_CACHE", "BOOL", "false", "keep answers, and give them again to equal requests"),
    setting(
        "CACHE_MAX_SIZE",
        "NUMBER",
        "1000",
        "most answers kept; least recently used ones go first",
    ),
    setting("CACHE_TTL_SECONDS", "SECONDS", "3600", "oldest answer given again"),
    setting(
        "CACHE_PERSIST_TO_DISK",
        "BOOL",
        "false",
        "keep answers also as files in CACHE_DIR/responses, for later processes",
    ),
    setting(
        "CORS_ORIGINS",
        "LIST",
        "*",
        "origins that browsers may call from; none: no CORS headers",
    ),
    setting("LOG_LEVEL", "FILTER", "info", "error, warn, info, debug, trace, or a tracing filter"),
    setting("LOG_FORMAT", "NAME", "text", "text or json"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique() {
        let mut names: Vec<_> = SETTINGS
            .iter()
            .flat_map(|setting| setting.aliases.iter().chain([&setting.name]))
            .collect();
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
    }

    #[test]
    fn flags_are_kebab_case() {
        let flags: Vec<_> = SETTINGS.iter().map(Setting::flag).collect();
        assert!(flags.contains(&"max-batch-tokens".to_owned()));
    }
}
