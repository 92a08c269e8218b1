"""Rules without a store: what a job carries, and what follows from what. Anybody may import them; they import only the
words (states, clock, names, serialization)."""
