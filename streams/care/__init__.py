"""Looking after logs: is everything there, and moving from one log to another.

Knows: logs, facts, dead letters. Must not know: the worker, whose work it checks: an auditor that used the worker's code
would share its mistakes.
"""
