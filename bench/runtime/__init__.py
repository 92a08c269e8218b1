"""Real servers and workers as processes of their own, for benches and tests.

servers    PostgreSQL and Redis, private        processes  what all servers share: start, stop, kill, freeze
replicas   a Redis that lags behind another     workers    `manage.py runworker` and other commands; nursery forks them
waiting    for a condition, with a deadline     leaks      keys in Redis that are not documented
"""
