"""What people and the judge said, as pure functions over values.

Knows: records, the wire contract, redaction, rubric and judging, pairing, the rolling window, facts and snapshots.
Must not know: torch, Faust, Kafka, HTTP servers, or where a process keeps its state.

What is stored is what happened (facts: turns, ratings, verdicts). Everything else here (exchanges, pairs, splits,
snapshots) is computed from facts when a snapshot is sealed, so a late rating or a new rule needs only the next seal.
"""
