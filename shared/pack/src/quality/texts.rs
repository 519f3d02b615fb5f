//! The texts that packing runs through a model to see its activations.
//!
//! Outlier channels belong to the weights, not to the subject: a few hundred tokens show them, which
//! is why these texts differ in language, script, register and form (questions, prose, numbers,
//! code) instead of being many. They are part of the program, so that the same checkpoint gives the
//! same snapshot everywhere.

use defrost_model::{ModelConfig, ModelSpec, Tokens};
use defrost_tasks::{Prompt, TextTokenizer, Truncation};

use crate::Error;

/// Tokens that are run in all. The largest activation of a channel is found to within some percent
/// by a few hundred tokens; each costs a layer two to five operations per weight.
const TOKENS: usize = 512;

/// Tokens of one sequence: enough for a chat prompt with both texts in it. Longer ones are cut.
const LONGEST: usize = 160;

/// Query and document, relevant and irrelevant by turns.
const PAIRS: [[&str; 2]; 16] = [
    [
        "who wrote the first computer program",
        "Ada Lovelace published notes in 1843 on how the Analytical Engine could compute Bernoulli numbers.",
    ],
    [
        "side effects of ibuprofen",
        "Le Rhône prend sa source dans les Alpes suisses et se jette dans la Méditerranée.",
    ],
    ["如何冲泡绿茶", "冲泡绿茶的水温以八十度左右为宜,时间约两到三分钟,茶汤清澈,味道鲜爽。"],
    [
        "python reverse a list",
        "def reverse(xs):\n    return xs[::-1]  # xs.reverse() works in place\n",
    ],
    [
        "Öffnungszeiten Bibliothek",
        "Die Stadtbibliothek ist montags bis freitags von 10 bis 19 Uhr und samstags bis 14 Uhr geöffnet.",
    ],
    [
        "does vitamin D lower mortality",
        "RESULTS: In 12,401 adults the hazard ratio was 0.97 (95% CI 0.88-1.08; p = 0.61), no effect was seen.",
    ],
    [
        "東京 天気",
        "Photosynthesis turns carbon dioxide and water into glucose and oxygen with the energy of light.",
    ],
    [
        "¿Cuál es la capital de Australia?",
        "Canberra es la capital de Australia desde 1913; Sídney y Melbourne son ciudades más grandes.",
    ],
    [
        "cheap flights lisbon",
        "Terms & Conditions (v2.3): refunds within 14 days, see https://example.com/terms?id=42#refunds",
    ],
    [
        "столица Казахстана",
        "Астана стала столицей Казахстана в 1997 году, до этого столицей была Алма-Ата.",
    ],
    [
        "error E0382 borrow of moved value",
        "The value was moved into the closure; clone it or borrow it with a reference before the move.",
    ],
    ["عاصمة المغرب", "الرباط هي عاصمة المغرب، وأكبر مدنه الدار البيضاء."],
    [
        "recipe lentil soup",
        "Stock prices fell 3.2% on Tuesday after the central bank raised its rate to 5.25 percent.",
    ],
    ["कंप्यूटर क्या है", "कंप्यूटर एक मशीन है जो निर्देशों के अनुसार आँकड़ों को संसाधित करती है।"],
    [
        "capital gains tax 2024",
        "| year | rate | allowance |\n|---|---|---|\n| 2023 | 20% | 6,000 |\n| 2024 | 20% | 3,000 |",
    ],
    [
        "quem pintou a Mona Lisa",
        "A Mona Lisa foi pintada por Leonardo da Vinci entre 1503 e 1506, em Florença.",
    ],
];

/// The token sequences of the built-in texts as this model reads them.
pub(super) fn sequences(spec: &ModelSpec, tokenizer: &[u8]) -> Result<Vec<Tokens>, Error> {
    let ModelConfig { max_positions, .. } = spec.config;
    let tokenizer = TextTokenizer::from_json(tokenizer)?.with_rules(spec.text_rules());
    let prompt = Prompt::new(tokenizer, &spec.template, spec.max_length, max_positions)?;
    let truncation = Truncation::default();
    let (mut sequences, mut room) = (Vec::new(), TOKENS);
    for [query, document] in PAIRS {
        let query = prompt.query(query, None, &truncation)?;
        let document = prompt.document(&query, document, &truncation)?;
        for sequence in Prompt::query_sequence(&query).into_iter().chain([document]) {
            let mut tokens = sequence.tokens;
            let len = tokens.ids.len().min(LONGEST).min(room).min(max_positions);
            tokens.ids.truncate(len);
            tokens.types.resize(len, 0);
            room -= len;
            if len > 0 {
                sequences.push(tokens);
            }
        }
    }
    Ok(sequences)
}
