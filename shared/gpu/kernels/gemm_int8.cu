// Products of int8 with exact i32 sums: gemm.cuh.
#include "gemm.cuh"

GEMM_KERNELS(int8, int8_t)
