//! How models write calls of tools, and how a template is told by the example that it prints of one.

/// How a model writes calls of tools.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FormatKind {
    /// `<tool_call>\n{"name": …, "arguments": …}\n</tool_call>`, once for each call: Hermes, Qwen 2.5, Qwen 3.
    Hermes,
    /// `{"name": …, "parameters": …}`, the whole reply, perhaps after `<|python_tag|>`; several are separated by `;`: Llama 3.
    Llama3,
    /// `[TOOL_CALLS][{"name": …, "arguments": …}, …]`: Mistral.
    Mistral,
    /// `[TOOL_CALLS]name[ARGS]{…}`, once for each call: Mistral since the end of 2024.
    MistralNamed,
    /// As [`FormatKind::Hermes`], asked for in words of ours: the template shows no tools, or writes calls in a way of its own.
    Generic,
}

/// What introduces and ends a call in [`FormatKind::Hermes`].
pub(crate) const TOOL_CALL: [&str; 2] = ["<tool_call>", "</tool_call>"];
/// What introduces calls in [`FormatKind::Mistral`].
pub(crate) const TOOL_CALLS: &str = "[TOOL_CALLS]";
/// What stands between a name and an id, and before arguments, in [`FormatKind::MistralNamed`].
pub(crate) const CALL_ID: &str = "[CALL_ID]";
pub(crate) const ARGS: &str = "[ARGS]";
/// What may introduce calls in [`FormatKind::Llama3`].
pub(crate) const PYTHON_TAG: &str = "<|python_tag|>";

impl FormatKind {
    /// Its name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Hermes => "hermes",
            Self::Llama3 => "llama3",
            Self::Mistral => "mistral",
            Self::MistralNamed => "mistral-named",
            Self::Generic => "generic",
        }
    }

    /// The format of a prompt with a call of this function, whose arguments begin with this key.
    pub(crate) fn of_example(printed: &str, function: &str, key: &str) -> Option<Self> {
        let dense: String = printed.split_whitespace().collect();
        let named = format!("{{\"name\":\"{function}\",");
        let with = |word: &str| format!("{named}\"{word}\":{{\"{key}\":");
        let has = |text: &str| dense.contains(text);
        let [open, _] = TOOL_CALL;
        let after_name = dense.split(&format!("{TOOL_CALLS}{function}")).nth(1);
        if has(&format!("{open}{}", with("arguments"))) {
            Some(Self::Hermes)
        } else if has(&format!("{TOOL_CALLS}[{}", with("arguments"))) {
            Some(Self::Mistral)
        } else if after_name.is_some_and(|rest| rest.starts_with(ARGS) || rest.starts_with(CALL_ID))
        {
            Some(Self::MistralNamed)
        } else if has(&with("parameters")) && !has(open) {
            Some(Self::Llama3)
        } else {
            None
        }
    }

    /// The texts of special tokens that belong to it: they are to be part of the text that a reply is read from.
    pub fn marks(self) -> &'static [&'static str] {
        match self {
            Self::Hermes | Self::Generic => &TOOL_CALL,
            Self::Llama3 => &[PYTHON_TAG],
            Self::Mistral => &[TOOL_CALLS],
            Self::MistralNamed => &[TOOL_CALLS, CALL_ID, ARGS],
        }
    }
}
