"""What happened, kept: append-only Delta tables of turns, ratings and verdicts.

Knows: records, the contract's values, Delta. Must not know: windows, labels, snapshots: those are derived. Rows are committed
together with the log offsets that they cover, in one transaction, so that replaying a log adds nothing twice.
"""
