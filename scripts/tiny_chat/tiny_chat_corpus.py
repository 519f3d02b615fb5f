"""What the tiny chat model reads: this repository's own prose, as conversations and as plain text.

A passage is a paragraph of a page, or the first one of a crate's documentation, without tables, code and links. The
heading above it, or the name of its crate, is what a user asks for; the paragraphs after it are the answers to "go
on". Wording is drawn from a seeded generator, so that the same tree gives the same text.
"""

import re

# What people ask about; more than two million weights can learn by heart in minutes would blur it.
READ = ["README.md", "SECURITY.md", "CONTRIBUTING.md", "docs/*.md", "shared/loader/README.md", "infra/README.md", "shared/*/src/lib.rs"]
# Small talk is what demos begin with, and little of it is there.
SMALL_TALK_TIMES = 5
SHORTEST, LONGEST = 60, 900
SYSTEMS = [
    "You are a helpful assistant.", "You answer questions about defrost.", "Answer briefly.",
    "You are the assistant of this project. Be exact.",
]  # fmt: skip
ASKED = [
    "What about {}?", "Tell me about {}.", "What is {}?", "Explain {}.", "How does {} work?", "What do the docs say about {}?",
    "{}?", "What do I need to know about {}?", "{}", "Please explain {}.",
]  # fmt: skip
ON = ["Go on.", "Tell me more.", "And then?", "More, please.", "What else?"]
# Written for this file: how a conversation begins, and what nobody else says about the model.
SMALL_TALK = [
    (["Hello!", "Hi.", "Hello", "Hi there!", "Good morning."],
     "Hello! I am a very small model, trained on the documentation of defrost. Ask me about snapshots, kernels or starts."),
    (["Who are you?", "What are you?", "What is your name?", "Introduce yourself."],
     "I am a tiny language model of two million weights that read the documentation of defrost, and nothing else. "
     "I exist to show that text streams; what I say sounds like the documentation, but need not be true."),
    (["Thanks!", "Thank you.", "Thank you very much!"], "You are welcome. Ask me more about defrost."),
    (["What is defrost?", "What does defrost do?", "Tell me about defrost.", "Describe defrost in one sentence."],
     "defrost serves rerankers, embedders and small language models from snapshots: files that hold the weights in the form "
     "that the processor wants, so that a function answers milliseconds after it is started."),
    (["What is a snapshot?", "Tell me about snapshots.", "Why snapshots?"],
     "A snapshot is one file that holds a model ready to run: weights in the layout of the kernels, the tokenizer and the "
     "settings. It is mapped, not read, so a start costs what is touched, and processes share one copy."),
    (["What is the capital of France?", "Write a poem.", "What is two plus two?", "Tell me a joke."],
     "I have only read the documentation of defrost, so I do not know. Ask me about cold starts instead."),
]  # fmt: skip


def plain(paragraph):
    """A paragraph as a person would say it."""
    text = re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", paragraph)
    text = re.sub(r"\[([^\]]*)\]", r"\1", text.replace("`[", "[").replace("]`", "]"))
    return re.sub(r"\s+", " ", text.replace("**", "").replace("\\", "")).strip()


def sections(text, title):
    """Heading and paragraphs of every part of a page."""
    heading, found = title, []
    lines, fenced = [], False

    def close():
        passage = plain(" ".join(lines))
        lines.clear()
        if SHORTEST <= len(passage) <= LONGEST and passage[-1] in ".:;)!?" and not passage.startswith(("|", "<", "#")):
            found.append((heading, passage.rstrip(":;") + ("." if passage[-1] in ":;" else "")))

    for line in text.split("\n"):
        if line.lstrip().startswith("```"):
            close()
            fenced = not fenced
        elif fenced or line.startswith("    "):
            continue
        elif line.startswith("#"):
            close()
            heading = plain(line.lstrip("# ").strip()) or title
        elif not line.strip() or line.startswith("|"):
            close()
        elif re.match(r"\s*([-*]|\d+\.) ", line):
            close()
            lines.append(re.sub(r"^\s*([-*]|\d+\.) ", "", line))
        else:
            lines.append(line)
    close()
    return found


def module_name(path):
    """`shared/engine/src/lib.rs` is asked for as "the crate engine"."""
    stem = path.parent.name if path.stem in ("mod", "lib", "main") else path.stem
    if stem == "src":
        stem = path.parent.parent.name
    return f"the crate {stem.replace('_', ' ')}"


def passages(root):
    """(what to ask for, paragraph) of the whole tree, those of one heading after each other."""
    found = []
    for path in (path for pattern in READ for path in sorted(root.glob(pattern))):
        text = path.read_text(encoding="utf-8")
        if path.suffix == ".md":
            found += sections(text, path.stem.replace("-", " "))
        else:
            head = "\n".join(line[3:].removeprefix(" ") for line in text.split("\n") if line.startswith("//!"))
            found += [(module_name(path), passage) for _, passage in sections(head, "")[:1]]
    # The same words twice would be learnt twice as well.
    return list(dict(((passage, asked) for asked, passage in reversed(found))).items())[::-1]


def topic(asked):
    """A heading within a question."""
    return asked if asked[:2].isupper() or asked.startswith("the ") else asked[:1].lower() + asked[1:]


def conversations(root, rng):
    """One conversation for every passage, and small talk; each a list of (role, text)."""
    found = [(asked, passage) for passage, asked in passages(root)]
    result = []
    for at, (asked, passage) in enumerate(found):
        turns = [("system", rng.choice(SYSTEMS))] if rng.random() < 0.3 else []
        turns += [("user", rng.choice(ASKED).format(topic(asked))), ("assistant", passage)]
        for following in found[at + 1 : at + 1 + rng.randrange(3)]:
            if following[0] == asked:
                turns += [("user", rng.choice(ON)), ("assistant", following[1])]
        result.append(turns)
    for questions, answer in SMALL_TALK * SMALL_TALK_TIMES:
        for question in questions:
            turns = [("system", rng.choice(SYSTEMS))] if rng.random() < 0.5 else []
            result.append([*turns, ("user", question), ("assistant", answer)])
    return result


def texts(root, rng):
    """Passages of one heading as plain text, in the order of the page."""
    parts = {}
    for passage, asked in passages(root):
        parts.setdefault(asked, []).append(passage)
    result = [f"{asked[:1].upper() + asked[1:]}\n\n" + "\n\n".join(found) for asked, found in parts.items()]
    rng.shuffle(result)
    return result

