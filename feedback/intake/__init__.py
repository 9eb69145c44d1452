"""What comes in: the wire contract, the edge that events pass, recorded files.

Knows: records, splits, privacy. Must not know: facts, labels, the judge, or who sends. Nothing is guessed: what does not
fit is rejected with a code and the field at fault, and the caller keeps the original bytes.
"""
