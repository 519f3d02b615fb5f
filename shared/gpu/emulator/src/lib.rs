//! The GPU kernels on the CPU, for tests.
