"""Duties that one elected worker does for all: one duty, one short file."""
