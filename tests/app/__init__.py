"""The Django app that tests install: its tasks, and the rows in which these leave effects."""
