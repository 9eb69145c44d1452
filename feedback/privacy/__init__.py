"""Personal data and how it is taken out of texts before anything is kept.

Knows: messages as JSON values. Must not know: events, storage, or the key's other uses. Redaction does not depend on the
key (only a user id's hash does), so that the hash of a dataset does not either.
"""
