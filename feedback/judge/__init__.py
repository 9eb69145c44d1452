"""The AI judge: what it goes by, how it is asked and read, what it may cost, which turns it is asked about.

Knows: records, content, an OpenAI-compatible server. Must not know: how ratings become labels, topics, or where the ledger is
stored. Whatever the server does, the outcome is a verdict or the reason why there is none.
"""
