"""`python -m bench`: speed, CPU, memory and latency on private servers, beside the floor of the same run.

plan       how much of what                     enqueue, drain, backlog, latency, idle   one measure each
stores     the servers, emptied between         floor      the bare stores, without this product
worker     a real `manage.py runworker`         usage      CPU seconds and memory of process trees
runtime    real servers and workers             against    two versions in turns: `--against`
chaos      faults at random: `python -m bench.chaos`
"""
