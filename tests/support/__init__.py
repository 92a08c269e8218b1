"""What tests share: jobs and rows, children that work by hand, faults, models of what should happen."""
