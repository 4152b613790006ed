// Runs one of llama.cpp's ARM kernels once, for predict.sh: peer KERNEL N prints its multiply-adds over rows of 256·N.
// The numbers don't matter: no kernel branches on them.
#include <cstdio>
#include <cstdlib>
#include <cstring>

#define FOR_TYPES(X) X(q4_K, q8_K, 8x4, 8) X(q5_K, q8_K, 8x4, 8) X(q6_K, q8_K, 8x4, 8) X(q8_0, q8_0, 4x4, 4)

extern "C" {
#define DECLARE(type, act, form, rows)                                                                          \
    void ggml_vec_dot_##type##_##act(int, float *, size_t, const void *, size_t, const void *, size_t, int);   \
    void ggml_gemv_##type##_##form##_##act(int, float *, size_t, const void *, const void *, int, int);        \
    void ggml_gemm_##type##_##form##_##act(int, float *, size_t, const void *, const void *, int, int);
FOR_TYPES(DECLARE)
void ggml_vec_dot_f16(int, float *, size_t, unsigned short *, size_t, unsigned short *, size_t, int);
}

int main(int argc, char **argv) {
    if (argc != 3) return fprintf(stderr, "usage: peer KERNEL N\n"), 2;
    const int n = atoi(argv[2]) * 256;
    void *w = calloc(n, 32), *x = calloc(n, 32);
    float out[64];
    int products = 0; // rows × tokens
#define RUN(type, act, form, rows)                                                                              \
    if (!strcmp(argv[1], "vec_dot_" #type)) products = 1, ggml_vec_dot_##type##_##act(n, out, 0, w, 0, x, 0, 1); \
    if (!strcmp(argv[1], "gemv_" #type))                                                                        \
        products = rows, ggml_gemv_##type##_##form##_##act(n, out, rows, w, x, 1, rows);                        \
    if (!strcmp(argv[1], "gemm_" #type))                                                                        \
        products = 4 * rows, ggml_gemm_##type##_##form##_##act(n, out, rows, w, x, 4, rows);
    FOR_TYPES(RUN)
    if (!strcmp(argv[1], "vec_dot_f16"))
        products = 1, ggml_vec_dot_f16(n, out, 0, (unsigned short *)w, 0, (unsigned short *)x, 0, 1);
    if (!products) return fprintf(stderr, "no such kernel: %s\n", argv[1]), 2;
    printf("%d\n", products * n);
}
