"""What may be served, and how everything is started: the composition root.

Knows: every other package. Must not know: torch by name. Its rooms lie on each other: pure rules under what is remembered,
that under the decisions, the ports and the command line on top.
"""
