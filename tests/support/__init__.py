"""What tests and benches share: real servers, waiting, leak checks."""
