// A plugin for qemu-aarch64 that counts the instructions of a program with one thread, and with words=FILE,symbol=TEXT
// writes those that functions with TEXT in their names execute, in order: a line of hexadecimal bytes each, as llvm-mc
// reads them.
//
//   cc -O2 -shared -fPIC -o trace.so trace.c
//   qemu-aarch64 -plugin ./trace.so[,symbol=mul_q4_k,words=FILE] PROGRAM   prints "instructions: N" on stderr
//
// Debian ships no qemu-plugin.h. What is used of the interface (version 1) is declared here.
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef uint64_t plugin_id;
typedef struct block block;
typedef struct instruction instruction;
enum { NO_REGISTERS = 0, ADD_U64 = 0 };
void qemu_plugin_register_vcpu_tb_trans_cb(plugin_id, void (*)(plugin_id, block *));
void qemu_plugin_register_atexit_cb(plugin_id, void (*)(plugin_id, void *), void *);
void qemu_plugin_register_vcpu_insn_exec_cb(instruction *, void (*)(unsigned, void *), int, void *);
void qemu_plugin_register_vcpu_tb_exec_inline(block *, int, void *, uint64_t);
size_t qemu_plugin_tb_n_insns(const block *);
instruction *qemu_plugin_tb_get_insn(const block *, size_t);
const void *qemu_plugin_insn_data(const instruction *);
const char *qemu_plugin_insn_symbol(const instruction *);

#define EXPORT __attribute__((visibility("default")))
EXPORT int qemu_plugin_version = 1;

static uint64_t count;
static const char *symbol;
static FILE *words;

static void write_word(unsigned cpu, void *data) {
    (void)cpu;
    uint32_t word = (uint32_t)(uintptr_t)data;
    fprintf(words, "0x%02x 0x%02x 0x%02x 0x%02x\n", word & 255, word >> 8 & 255, word >> 16 & 255, word >> 24);
}

static void on_translation(plugin_id id, block *block) {
    (void)id;
    size_t n = qemu_plugin_tb_n_insns(block);
    qemu_plugin_register_vcpu_tb_exec_inline(block, ADD_U64, &count, n);
    for (size_t i = 0; words && i < n; i++) {
        instruction *insn = qemu_plugin_tb_get_insn(block, i);
        const char *name = qemu_plugin_insn_symbol(insn);
        if (name && strstr(name, symbol)) {
            uint32_t word;
            memcpy(&word, qemu_plugin_insn_data(insn), sizeof word);
            qemu_plugin_register_vcpu_insn_exec_cb(insn, write_word, NO_REGISTERS, (void *)(uintptr_t)word);
        }
    }
}

static void on_end(plugin_id id, void *data) {
    (void)id, (void)data;
    dprintf(STDERR_FILENO, "instructions: %" PRIu64 "\n", count);
    if (words) fclose(words);
}

EXPORT int qemu_plugin_install(plugin_id id, const void *info, int argc, char **argv) {
    (void)info;
    for (int i = 0; i < argc; i++) {
        if (!strncmp(argv[i], "symbol=", 7)) symbol = strdup(argv[i] + 7);
        if (!strncmp(argv[i], "words=", 6) && !(words = fopen(argv[i] + 6, "w"))) return perror(argv[i] + 6), 1;
    }
    if (words && !symbol) return fprintf(stderr, "words= needs symbol=\n"), 1;
    qemu_plugin_register_vcpu_tb_trans_cb(id, on_translation);
    qemu_plugin_register_atexit_cb(id, on_end, NULL);
    return 0;
}
