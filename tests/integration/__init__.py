"""Both stores, this process alone: real rows and a real Redis, no worker processes."""
