/// How a model writes calls of tools.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FormatKind {
    /// `<tool_call>\n{"name": …, "arguments": …}\n</tool_call>`, once for each call: Hermes, Qwen 2.5, Qwen 3.
    Hermes,
    /// `{"name": …, "parameters": …}`, the whole reply, perhaps after `<|python_tag|>`; several are separated by `;`: Llama 3.
    Llama3,
    /// `[TOOL_CALLS][{"name": …, "arguments": …}, …]`: Mistral.
    Mistral,
    /// As [`FormatKind::Hermes`], asked for in words of ours: the template knows of no tools.
    Generic,
}
