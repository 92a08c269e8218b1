"""The keeper: the process of a worker that sends its heartbeats, recovers its dead children and may lead.

The supervisor starts it. It may import what `worker` may."""
