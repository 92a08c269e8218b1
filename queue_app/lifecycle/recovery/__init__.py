"""What brings jobs back: from workers that died, and into a Redis that lost its data.

Maintenance and the worker call it. It may import the rest of `lifecycle`, models and the dispatch."""
