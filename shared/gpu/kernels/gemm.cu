// Products of 16-bit types with f32 sums: gemm.cuh.
#include "gemm.cuh"

GEMM_KERNELS(bf16, bf16)
GEMM_KERNELS(f16, f16)
