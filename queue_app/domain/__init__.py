"""Pure rules: states, retries, cron, names, what a job carries, what an attempt came to. No store and no model.

Everything else may call it. It imports the settings, the clock and the exceptions, and nothing else of ours."""
