// Functions that values go through between products, in f32 and as exact as the library's.

#pragma once
#include "defrost.cuh"

// x times the normal distribution's share below x, by the error function.
DEFROST_INLINE float gelu(float x) { return 0.5f * x * (1.0f + erff(x * 0.70710678118654752f)); }

DEFROST_INLINE float sigmoid(float x) { return 1.0f / (1.0f + expf(-x)); }

// x sigmoid(x).
DEFROST_INLINE float silu(float x) { return x / (1.0f + expf(-x)); }
