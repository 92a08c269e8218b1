"""`python -m bench.chaos`: real workers on private stores, random faults, and a count of what became of every job.

plan       which fault when, from the seed       faults     who makes which kind: worker_faults, redis_faults,
targets    whom a fault hits                                postgresql_faults
arena      stores, workers, enqueuers            network    a worker behind a cable that can be cut
tasks      what the jobs do                      clock      a worker's time, shifted
enqueuer   a process that enqueues               ledger     its own account of what it committed
account    what the record says at the end       checker    the promises, one by one
recovery   how long it took after each fault     report     the tables
"""
