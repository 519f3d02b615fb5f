//! What every conversation of a template begins with: the tokens whose keys and values are stored ([`crate::prefix`]).
//!
//! The template prints made-up conversations, with a system message and without, of one turn and of more, at moments of which
//! no part of the date is the same. Of each kind the tokens that all begin with are what the template itself says; so what
//! depends on the day, as the texts of `strftime_now` do, ends them. Those of conversations without a system message are
//! stored, for many templates have one of their own, unless the others have more than twice as many in common. A conversation
//! uses them as far as it begins so: one with a system message of its own still has the tokens before that.
//!
//! Nothing depends on it: with fewer tokens, or none, more is computed, and every answer is the same.

use defrost_chat::{Conversation, Message, Role, SpecialTexts, Templates};
use defrost_model::ChatSpec;
use defrost_tasks::TextTokenizer;

/// Moments whose dates differ in day, month, year, weekday, hour and minute: 1970-01-01 00:00, 2023-11-14 22:13, 2033-05-18
/// 03:33.
const MOMENTS: [i64; 3] = [0, 1_700_000_000, 2_000_000_000];

/// Texts that begin with characters of different kinds, none of which joins a line break or a blank before it in any
/// vocabulary that is known.
const TEXTS: [&str; 3] = ["Who wrote it?", "\u{4e2d}\u{6587}", "42 is the answer"];

/// The tokens; none if the template prints no conversation.
pub(super) fn beginning(chat: &ChatSpec, tokenizer: &TextTokenizer, context: usize) -> Vec<u32> {
    let Some(template) = &chat.template else { return Vec::new() };
    let text = |name: &str| chat.special_tokens.get(name).cloned().unwrap_or_default();
    let texts = SpecialTexts { bos: text("bos_token"), eos: text("eos_token") };
    let Ok(templates) = Templates::new(template, None, &texts) else { return Vec::new() };
    let ids = |messages: &[Message], now: i64| {
        let conversation =
            Conversation { messages: messages.to_vec(), now, ..Conversation::default() };
        let prompt = templates.prompt(&conversation).ok()?;
        tokenizer.ids(&prompt.text, context).ok()
    };
    let of_kind = |conversations: &[Vec<Message>]| {
        let all = conversations.iter().flat_map(|messages| MOMENTS.map(|now| ids(messages, now)));
        common(all.collect::<Option<Vec<_>>>()?)
    };
    let own = of_kind(&plain()).unwrap_or_default();
    let other = of_kind(&with_system()).unwrap_or_default();
    if other.len() > 2 * own.len() { other } else { own }
}

/// Conversations without a system message.
fn plain() -> Vec<Vec<Message>> {
    let user = |text: &str| Message::text(Role::User, text);
    let alone = TEXTS.iter().map(|text| vec![user(text)]);
    let longer = vec![user(TEXTS[0]), Message::text(Role::Assistant, TEXTS[1]), user(TEXTS[2])];
    alone.chain([longer]).collect()
}

/// The same, each with another system message.
fn with_system() -> Vec<Vec<Message>> {
    let systems = TEXTS.iter().rev().cycle();
    let all = plain().into_iter().zip(systems);
    all.map(|(rest, text)| [vec![Message::text(Role::System, *text)], rest].concat()).collect()
}

/// What all begin with.
fn common(all: Vec<Vec<u32>>) -> Option<Vec<u32>> {
    all.into_iter().reduce(|mut first, other| {
        let same = first.iter().zip(&other).take_while(|(one, two)| one == two).count();
        first.truncate(same);
        first
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use defrost_model::SamplingDefaults;
    use serde_json::json;

    use super::*;

    /// Every byte is a token, and so are the marks of turns.
    fn tokenizer() -> TextTokenizer {
        let symbols = tokenizers::pre_tokenizers::byte_level::ByteLevel::alphabet();
        let mut symbols: Vec<String> = symbols.into_iter().map(String::from).collect();
        symbols.sort_unstable();
        let marks = ["<s>", "<|im_start|>", "<|im_end|>"].map(str::to_owned);
        let vocab: serde_json::Map<_, _> = marks
            .iter()
            .chain(&symbols)
            .zip(0..)
            .map(|(name, id)| (name.clone(), json!(id)))
            .collect();
        let added: Vec<_> = marks
            .iter()
            .enumerate()
            .map(|(id, content)| {
                json!({"id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false,
                       "normalized": false, "special": true})
            })
            .collect();
        let byte_level = json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true});
        let json = json!({"version": "1.0", "added_tokens": added, "pre_tokenizer": byte_level,
                          "model": {"type": "BPE", "vocab": vocab, "merges": []}});
        TextTokenizer::from_json(json.to_string().as_bytes()).unwrap()
    }

    fn beginning_of(template: &str) -> String {
        let tokenizer = tokenizer();
        let chat = ChatSpec {
            template: Some(template.to_owned()),
            named_templates: BTreeMap::new(),
            special_tokens: BTreeMap::from([("bos_token".to_owned(), "<s>".to_owned())]),
            bos: Some(0),
            add_bos: false,
            ends: [2].into(),
            sampling: SamplingDefaults::default(),
            quantization: None,
        };
        let ids = beginning(&chat, &tokenizer, 4096);
        if ids.is_empty() {
            return String::new();
        }
        // The text whose tokens they are: tokens are bytes and marks here, so it is a beginning of what is printed.
        let texts = SpecialTexts { bos: "<s>".to_owned(), eos: String::new() };
        let templates = Templates::new(template, None, &texts).unwrap();
        let printed = |messages: Vec<Message>| {
            templates.prompt(&Conversation { messages, ..Conversation::default() })
        };
        let plain = printed(vec![Message::text(Role::User, TEXTS[0])]);
        let with = printed(vec![
            Message::text(Role::System, TEXTS[2]),
            Message::text(Role::User, TEXTS[0]),
        ]);
        let all = [plain, with].into_iter().flatten();
        let found = all.into_iter().find_map(|prompt| {
            let text = prompt.text;
            let mut ends = text.char_indices().map(|(at, _)| at).chain([text.len()]);
            ends.find(|&end| tokenizer.ids(&text[..end], 4096).unwrap() == ids)
                .map(|end| text[..end].to_owned())
        });
        found.unwrap_or_else(|| panic!("{ids:?} begin no conversation"))
    }

    #[test]
    fn the_templates_own_words_are_found_up_to_the_first_of_others() {
        let turns = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}<|im_start|>assistant\n";
        let own = |system: &str| {
            format!(
                "{{% if messages[0].role != 'system' %}}<|im_start|>system\n{system}<|im_end|>\n{{% endif %}}{turns}"
            )
        };
        for (template, expected) in [
            (turns.to_owned(), "<|im_start|>user\n"),
            (format!("{{{{ bos_token }}}}{turns}"), "<s><|im_start|>user\n"),
            (own("You help."), "<|im_start|>system\nYou help.<|im_end|>\n<|im_start|>user\n"),
            (own("Today is {{ strftime_now('%d %b %Y') }}."), "<|im_start|>system\nToday is "),
            (own("It is {{ strftime_now('%A') }}."), "<|im_start|>system\nIt is "),
            ("{{ messages[0].content }}".to_owned(), ""),
            ("{{ raise_exception('no') }}".to_owned(), ""),
            ("{% if".to_owned(), ""),
        ] {
            assert_eq!(beginning_of(&template), expected, "{template}");
        }
    }

    /// A template that takes no system message is asked for the other conversations all the same.
    #[test]
    fn what_a_template_refuses_does_not_count() {
        let strict = "{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('none') }}{% endif %}[{{ m.role }}]{{ m.content }}{% endfor %}";
        assert_eq!(beginning_of(strict), "[user]");
    }
}
