"""Times llama.cpp as shared/tasks/examples/generate_speed times defrost, and prints the same lines of JSON.

Steps call llama_decode itself, so that the package's Python costs nothing in them; its import and the load are in the
time to the first token, as they are for everybody who starts it (`imported_s` and `loaded_s` say how much).
"""

import time

BEGUN = time.perf_counter()

import argparse  # noqa: E402
import ctypes  # noqa: E402
import json  # noqa: E402
import os  # noqa: E402
import sys  # noqa: E402
from pathlib import Path  # noqa: E402

AT_ONCE = 512


def ids(length, salt, vocab):
    """The same tokens as the other contestant's."""
    return [(at * 7919 + salt * 104_729 + 17) % vocab for at in range(length)]


def memory():
    """Resident memory in MiB: of its own, and mapped."""
    fields = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return {name: int(fields[key].split()[0]) >> 10 for name, key in (("own_mib", "RssAnon"), ("mapped_mib", "RssFile"))}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="a GGUF file")
    for name, usual in (("ask", 100), ("prompt", 512), ("tokens", 32), ("threads", len(os.sched_getaffinity(0)))):
        parser.add_argument(f"--{name}", type=int, default=usual)
    parser.add_argument("--depths", default="128,4096")
    parser.add_argument("--flash", choices=["auto", "on", "off"], default="auto", help="fused attention")
    arguments = parser.parse_args()
    depths = [int(depth) for depth in arguments.depths.split(",")]
    import llama_cpp

    imported = time.perf_counter() - BEGUN
    context = max(max(depths) + arguments.tokens, arguments.prompt, arguments.ask) + 1
    flash = {"auto": -1, "off": 0, "on": 1}[arguments.flash]
    quiet = llama_cpp.llama_log_callback(lambda level, text, data: None)
    llama_cpp.llama_log_set(quiet, ctypes.c_void_p())
    llama_cpp.llama_backend_init()
    model = llama_cpp.llama_model_load_from_file(arguments.model.encode(), llama_cpp.llama_model_default_params())
    if not model:
        sys.exit(f"llama.cpp cannot load {arguments.model}, expected a GGUF file of a language model")
    options = llama_cpp.llama_context_default_params()
    options.n_ctx, options.n_batch, options.n_ubatch = context, AT_ONCE, AT_ONCE
    options.n_threads = options.n_threads_batch = arguments.threads
    options.flash_attn_type = flash
    state = llama_cpp.llama_init_from_model(model, options)
    vocab = llama_cpp.llama_vocab_n_tokens(llama_cpp.llama_model_get_vocab(model))
    loaded = time.perf_counter() - BEGUN

    def step(tokens):
        for at in range(0, len(tokens), AT_ONCE):
            some = (ctypes.c_int32 * len(tokens[at : at + AT_ONCE]))(*tokens[at : at + AT_ONCE])
            if code := llama_cpp.llama_decode(state, llama_cpp.llama_batch_get_one(some, len(some))):
                sys.exit(f"llama_decode answered {code}")
        llama_cpp.llama_synchronize(state)
        return llama_cpp.llama_get_logits_ith(state, -1)

    def greatest(row):
        import numpy

        return int(numpy.ctypeslib.as_array(row, (vocab,)).argmax())

    def forget():
        llama_cpp.llama_memory_clear(llama_cpp.llama_get_memory(state), True)

    first = greatest(step(ids(arguments.ask, 1, vocab)))
    told = {"event": "first_token", "imported_s": imported, "loaded_s": loaded, "since_main_s": time.perf_counter() - BEGUN}
    print(json.dumps(told), flush=True)
    forget()
    begun = time.perf_counter()
    step(ids(arguments.prompt, 2, vocab))
    prefill = arguments.prompt / (time.perf_counter() - begun)
    forget()
    rates = {}
    for at, depth in enumerate(depths):
        token = greatest(step(ids(max(depth, 1), 3 + at, vocab)))
        begun = time.perf_counter()
        for _ in range(arguments.tokens):
            token = greatest(step([token]))
        rates[str(depth)] = arguments.tokens / (time.perf_counter() - begun)
        forget()
    system = " ".join(llama_cpp.llama_print_system_info().decode().split())
    print(json.dumps({
        "event": "done", "first": first, "prefill_per_s": prefill, "decode_per_s": rates, "memory": memory(),
        "system": f"llama-cpp-python {llama_cpp.__version__} on {arguments.threads} threads, {system}",
    }), flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
