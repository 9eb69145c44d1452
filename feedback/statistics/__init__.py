"""Statistics that decisions rest on: each function says what it assumes and where it comes from.

Knows: numbers. Must not know: events, gates, who asks. Kept apart so that a referee can look at every formula by itself.
"""
