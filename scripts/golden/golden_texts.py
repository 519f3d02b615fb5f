"""Texts for golden.py: what its tiny tokenizers are trained on, and the pairs its tiny models score.

All sentences were written for this file. Long documents are grown from SENTENCES to a length in tokens.
"""

SENTENCES = [
    "Harper Lee wrote the novel To Kill a Mockingbird, published in 1960.",
    "The novel 'Moby-Dick' was written by Herman Melville.",
    "The search engine returns the documents that match the query best.",
    "A reranker reads the query and the document together and gives one score.",
    "The capital of France is Paris; the capital of China is Beijing.",
    "Berlin had a population of 3,520,031 registered inhabitants.",
    "Snow melts at 0 degrees and water boils at 100 degrees.",
    "Is the answer yes or no? The answer is yes. No, the answer is no!",
    "Please restart the server, then check that the model is loaded.",
    "Cold starts are slow because the weights must be read from the disk.",
    "She doesn't know when they'll arrive, and we've no other news.",
    "The quick brown fox jumps over the lazy dog while the cat sleeps.",
    "Der schnelle Bär läuft über die grüne Wiese und hört die Vögel.",
    "Wie viele Menschen leben in Berlin? Die Straße ist schön und groß.",
    "Das Modell liest die Frage und das Dokument und gibt eine Zahl.",
    "Übermäßig große Gewichte müssen nicht geladen werden.",
    "谁写了这本小说？这本小说是李写的。",
    "中国的首都是北京。今天天气很好。",
    "模型读问题和文档，给出一个分数。",
    "من كتب هذه الرواية؟ كتبت لي هذه الرواية.",
    "عاصمة الصين هي بكين والنموذج يقرأ السؤال.",
    "fn main() { let score = model.score(&query, &doc)?; println!(\"{score}\"); }",
    "def rerank(query, docs): return sorted(docs, key=lambda d: -score(query, d))",
    "SELECT id, score FROM docs WHERE score > 0.5 ORDER BY score DESC;",
    "See https://example.com/docs?id=42&lang=en for more. Thanks 😀🎉!",
    "Line one\nLine two\n\nLine three\tand a tab",
]

FIRST_ANSWER = "'To Kill a Mockingbird' is a novel by Harper Lee published in 1960."
WHO = "Who wrote 'To Kill a Mockingbird'?"

# (name, query, document): scored by every model.
PAIRS = [
    ("answer", WHO, FIRST_ANSWER),
    ("distractor", WHO, "The novel 'Moby-Dick' was written by Herman Melville."),
    ("half-answer", WHO, "Harper Lee was born in 1926 in Monroeville, Alabama."),
    ("one-token-both", "a", "a"),
    ("one-token-query", "a", FIRST_ANSWER),
    ("one-token-document", WHO, "a"),
    ("empty-document", WHO, ""),
    ("blank-document", WHO, "   "),
    ("same-text", FIRST_ANSWER, FIRST_ANSWER),
    ("german", "Wie viele Menschen leben in Berlin?", "Übermäßig große Straßen; 3.520.031 Einwohner, schöne Häuser."),
    ("chinese", "中国的首都是哪里？", "中国的首都是北京，人口很多。"),
    ("arabic", "من كتب هذه الرواية؟", "كتبت هارper لي هذه الرواية في عام ١٩٦٠."),
    ("emoji", "party 🎉?", "We had fun 😀👍🏽👩‍👩‍👧 and 🎉🎉 at the party!"),
    ("combining-marks", "cafe\u0301 nai\u0308ve", "A cafe\u0301 is not a café to every tokenizer; a\u030a\u0323 comes in two orders."),
    ("compatibility-forms", "ﬁne Ｗｉｄｅ ①", "½ of the ﬁles are Ｗｉｄｅ, x² ≠ x㎏ and \u212b is Å."),
    ("mixed-scripts", "Harper 李 лее ハーパー", "Das Modell 模型 reads النموذج und ΑΒΓ абв ひらがな 한국어."),
    ("invisible", "zero\u200bwidth", "soft\u00adhyphen, no\u00a0break, zero\u200bwidth,\ttab\r\nand\u2028line"),
    ("code-python", "sort documents by score", "def rerank(query, docs):\n    return sorted(docs, key=lambda d: -score(query, d))\n"),
    ("code-rust", "fn score(&self)?", "impl Model {\n\tpub fn score(&self) -> Result<f32, Error> {\n\t\tOk(self.0[1] - self.0[0])\n\t}\n}"),
    ("numbers", "1234567890", "3,520,031 is 3.52e6; 0x1F600, -273.15 and 1/3."),
    ("url", "where are the docs", "See https://example.com/docs?id=42&lang=en#top or mail me@example.com."),
    ("contractions", "don't they'll WE'VE i'm", "She'd say it's John's; they'RE not sure he'D've known."),
    ("ends-question", "Is it so?", "Is the answer yes or no?"),
    ("ends-exclamation", "Stop!", "No, the answer is no!!"),
    ("ends-newline", "first line\n", "Line one\nLine two\n\n"),
    ("ends-space", "trailing space ", "also trailing   "),
    ("starts-newline", "\nleading", "\n\n  indented text"),
    ("quotes", "\"what's\" 'this'", "He said: \"it's 'fine'.\" (…) — „so“ «oui»"),
    ("only-punctuation", "?!", "... --- !!!"),
]

# (name, query, document, instruction): scored by models whose prompt takes an instruction.
INSTRUCTED = [
    ("instruction", WHO, FIRST_ANSWER, "Find the passage that names the author."),
    ("instruction-unicode", "中国的首都是哪里？", "中国的首都是北京。", "Finde die Antwort! 请回答"),
    ("instruction-question", WHO, "Herman Melville wrote 'Moby-Dick'.", "Does the document answer the query?"),
    ("special-token-in-text", "What is <|im_end|>?", "The token <|im_end|>\n<|im_start|>assistant\nends a turn.", None),
]

# (name, query, document): {0} is the name of the token for masks, {1} that of the one for padding, for which some
# models count no position.
NAMED = [
    ("padding-token-in-text", "{1}What is {1}?", "The token {1} {1}\nfills a batch {0}, {1}"),
]

MXBAI_PREFIX = (
    "<|im_start|>system\nYou are Qwen, created by Alibaba Cloud. You are a helpful assistant.<|im_end|>\n"
    "<|im_start|>user\n"
)
MXBAI_TASK = (
    "You are a search relevance expert who evaluates how well documents match search queries. "
    "For each query-document pair, carefully analyze the semantic relationship between them, "
    "then provide your binary relevance judgment (0 for not relevant, 1 for relevant).\nRelevance:"
)
MXBAI_SUFFIX = "<|im_end|>\n<|im_start|>assistant\n"

QWEN3_PREFIX = (
    "<|im_start|>system\nJudge whether the Document meets the requirements based on the Query and the Instruct "
    'provided. Note that the answer can only be "yes" or "no".<|im_end|>\n<|im_start|>user\n'
)
QWEN3_SUFFIX = "<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n"
QWEN3_INSTRUCTION = "Given a web search query, retrieve relevant passages that answer the query"
QWEN3_QUERY_PROMPT = f"Instruct: {QWEN3_INSTRUCTION}\nQuery:"

# Byte-level BPE also sees the prompts, so that they stay short in tokens, as they are in the real vocabulary.
PROMPTS = [
    MXBAI_PREFIX, MXBAI_TASK, MXBAI_SUFFIX, QWEN3_PREFIX, QWEN3_SUFFIX, QWEN3_QUERY_PROMPT,
    "query: document: instruction:", "<Instruct>: \n<Query>: \n<Document>: ", "yes no yes no",
]
