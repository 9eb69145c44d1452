"""What flows: the hops as Faust agents, the SQLite transport, dead letters.

Knows: Faust, Kafka clients, SQLite, and the pure functions of `feedback`.
Must not know: torch, or how a decision is made. A hop decodes, calls one pure function and emits; a batch of one
partition is one Faust event, acknowledged only when its outputs are durable.
"""
