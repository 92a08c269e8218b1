"""The hot path: Redis lists that carry waiting ids. It speaks ids, bytes and numbers, never models."""
