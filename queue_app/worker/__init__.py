"""The processes of `runworker`: a supervisor, a keeper, and children that run jobs.

The command calls it. It may import maintenance and what that may import; not queries, operations or faces."""
