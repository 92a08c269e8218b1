"""The verbs that move a job through its life. This package is the only writer of `Job.state`.

Every change writes the row first (guarded), and Redis after the commit. The one exception is the claim, which Redis
decides. Producers, operations, maintenance and the worker call it. It may import models and the dispatch."""
