"""Recovery: of jobs whose worker died, and of a Redis that lost its data.

Maintenance and the worker call it. It may import the rest of `lifecycle`, models and the dispatch."""
