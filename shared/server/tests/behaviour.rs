//! The server's behaviour, with a deterministic scorer in place of a model.

mod behaviour {
    mod admin;
    mod arbitrary;
    mod bad_input;
    mod bounds;
    #[cfg(feature = "chat")]
    mod chat;
    mod child;
    mod circles;
    mod config;
    mod fleet;
    mod lambda;
    mod openapi;
    mod operations;
    mod pages;
    mod queue;
    mod rooms;
    mod several;
    mod shapes;
    mod snapshot;
    mod sockets;
    mod toy;
    mod wire;
}
