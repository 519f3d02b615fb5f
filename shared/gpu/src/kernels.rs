//! The kernels: what each is asked, and with which geometry it starts.
