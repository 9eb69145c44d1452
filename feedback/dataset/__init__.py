"""From facts to a sealed snapshot: which of millions of turns count, what they teach, and an account of the rest.

Knows: labels, splits, facts through a protocol. Must not know: Delta, topics, training. A function of the set of facts, the
moment and the rules' version alone: that is what makes a dataset's hash reproducible.
"""
