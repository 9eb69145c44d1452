"""Gather, decide, store: what people and the controller may do, and how it is shown.

Knows: rules, control, candidates on disk. Must not know: HTTP, the command line, engines: both ports and the commands call it,
so that there is one place where a rule is enforced.
"""
