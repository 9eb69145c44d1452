"""Other systems' logs as our events: each format is a function from a file to events and the account of what would be lost.

Knows: files, and the wire's field names. Must not know: the edge, the log, settings. Ids come from what was said, so that importing twice adds nothing. Nothing here writes; what comes
out goes through the edge.
"""
