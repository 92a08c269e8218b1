"""Real workers, real signals, both stores: what users do, and what happens to their machines."""
