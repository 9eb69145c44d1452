"""Other systems' logs as our events: each format is a function from a file to events and the account of what would be lost.

Ids come from what was said, so that importing twice adds nothing. Nothing here writes; what comes out goes through the edge.
"""
