"""The embedded log: one SQLite file with topics, offsets and groups, and Faust's way of reading it.

Knows: SQLite, Faust. Must not know: what a record says. Durable at each commit, without a server to start.
"""
