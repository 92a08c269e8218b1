"""`manage.py demo`: thousands of real jobs through a real worker, and every count checked."""
