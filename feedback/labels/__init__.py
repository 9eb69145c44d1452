"""From what was said to labels: ratings and verdicts in, preference pairs, unpaired labels and demonstrations out.

Knows: records and texts. Must not know: storage, windows, the clock. Everything is a pure function of a set, indifferent to
order and duplicates, so that any replay of a log gives the same labels.
"""
