"""What may be decided: rollout, assignment, gate, approval, schedule, as pure functions over values.

Knows: settings. Must not know: SQL, HTTP, files, the clock: time and evidence arrive as arguments, so that every rule can be
tested with a table and simulated for weeks in a second.
"""
