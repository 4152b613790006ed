// compat-greedy MODEL N LOGITS_DIR PROMPT_FILE…
//
// llama.cpp's own answer, as data: for each prompt file one line of JSON with the prompt's ids (special tokens in the text are
// parsed), N greedy tokens, by how much each led the runner-up, whether it ends a text, and its bytes in hex. LOGITS_DIR
// gets one file a prompt, float32 [N, vocab]; "-" writes none. Generation goes on after a token that ends a text.

#include "llama.h"

#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

static void die(const std::string & what) {
    fprintf(stderr, "compat-greedy: %s\n", what.c_str());
    exit(1);
}

static std::string read_file(const char * path) {
    std::ifstream f(path, std::ios::binary);
    if (!f) die(std::string("cannot read ") + path);
    return { std::istreambuf_iterator<char>(f), {} };
}

static std::vector<llama_token> tokenize(const llama_vocab * vocab, const std::string & text) {
    std::vector<llama_token> ids(text.size() + 8);
    const bool add_special = true, parse_special = true;
    int n = llama_tokenize(vocab, text.data(), text.size(), ids.data(), ids.size(), add_special, parse_special);
    if (n < 1) die("a prompt gives no tokens");
    ids.resize(n);
    return ids;
}

static std::string hex(const llama_vocab * vocab, llama_token id) {
    char piece[512];
    int n = llama_token_to_piece(vocab, id, piece, sizeof piece, 0, /* special */ true);
    std::string out;
    for (int i = 0; i < n; i++) {
        char two[3];
        snprintf(two, sizeof two, "%02x", (unsigned char) piece[i]);
        out += two;
    }
    return out;
}

template <typename T> static void print_list(const char * name, const std::vector<T> & xs) {
    printf("\"%s\":[", name);
    for (size_t i = 0; i < xs.size(); i++) printf("%s%.9g", i ? "," : "", (double) xs[i]);
    printf("]");
}

static void run(llama_model * model, const std::vector<llama_token> & prompt, int n, FILE * logits_out) {
    const llama_vocab * vocab = llama_model_get_vocab(model);
    const int n_vocab = llama_vocab_n_tokens(vocab);

    llama_context_params params = llama_context_default_params();
    params.n_ctx   = prompt.size() + n;
    params.n_batch = prompt.size();
    llama_context * ctx = llama_init_from_model(model, params);
    if (!ctx) die("no context");

    std::vector<llama_token> batch = prompt, tokens;
    std::vector<float> margins;
    std::vector<int> ends;
    std::vector<std::string> bytes;
    for (int step = 0; step < n; step++) {
        if (llama_decode(ctx, llama_batch_get_one(batch.data(), batch.size()))) die("decode failed");
        const float * logits = llama_get_logits_ith(ctx, -1);
        int best = 0, second = 1;
        if (logits[1] > logits[0]) best = 1, second = 0;
        for (int i = 2; i < n_vocab; i++) {
            if (logits[i] > logits[best]) second = best, best = i;
            else if (logits[i] > logits[second]) second = i;
        }
        tokens.push_back(best);
        margins.push_back(logits[best] - logits[second]);
        bytes.push_back(hex(vocab, best));
        ends.push_back(llama_vocab_is_eog(vocab, best));
        if (logits_out) fwrite(logits, sizeof(float), n_vocab, logits_out);
        batch.assign(1, best);
    }
    llama_free(ctx);

    printf("{");
    print_list("prompt", prompt);
    printf(",");
    print_list("tokens", tokens);
    printf(",");
    print_list("margins", margins);
    printf(",");
    print_list("ends", ends);
    printf(",\"hex\":[");
    for (size_t i = 0; i < bytes.size(); i++) printf("%s\"%s\"", i ? "," : "", bytes[i].c_str());
    printf("]}\n");
    fflush(stdout);
}

int main(int argc, char ** argv) {
    if (argc < 5) die("usage: compat-greedy MODEL N LOGITS_DIR PROMPT_FILE...");
    const int n = atoi(argv[2]);
    const std::string dir = argv[3];

    llama_backend_init();
    llama_model * model = llama_model_load_from_file(argv[1], llama_model_default_params());
    if (!model) die(std::string("llama.cpp does not open ") + argv[1]);

    for (int i = 4; i < argc; i++) {
        FILE * out = nullptr;
        if (dir != "-") {
            const std::string path = dir + "/" + std::to_string(i - 4) + ".f32";
            out = fopen(path.c_str(), "wb");
            if (!out) die("cannot write " + path);
        }
        run(model, tokenize(llama_model_get_vocab(model), read_file(argv[i])), n, out);
        if (out && fclose(out)) die("cannot write the logits");
    }
    llama_model_free(model);
}
