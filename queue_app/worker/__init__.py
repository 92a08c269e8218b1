"""The processes of `runworker`: a supervisor, a keeper, and children that run jobs. DESIGN §7."""
