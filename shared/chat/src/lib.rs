//! From messages to prompts and back: chat templates, tool calls, reasoning, and grammars that hold tokens to a form.
//!
//! Nothing here runs a model, speaks HTTP or opens a file.
