"""The verbs that move a job through its life. This package is the only writer of `Job.state`.

The order of every change: the row first (guarded), and after the commit, Redis. The one exception is the claim,
which Redis decides and the record follows.
"""
