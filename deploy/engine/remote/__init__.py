"""An engine behind HTTP: any OpenAI-compatible server or hosted API, on one address or several.

Knows how such a server is asked and how it fails; not which adapter is asked for, nor what becomes of an answer. What a
server says is untrusted: bounded, and told to clients only in the shapes that OpenAI's have.
"""
