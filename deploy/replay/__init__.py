"""Recorded events through the whole loop, once, and the account of every one of them.

Knows: the worker, facts, dead letters. Must not know: HTTP, the command line. An event that nobody can account for is a failure.
"""
