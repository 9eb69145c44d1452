"""From facts to a registered candidate: the job as a child process, and everything around it.

Knows: snapshots, the job's spec, control, decisions. Must not know: torch (only the child loads it), HTTP.
"""
