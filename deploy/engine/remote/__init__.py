"""An engine behind HTTP: any OpenAI-compatible server or hosted API, on one address or several.

Knows: how such a server is asked, how it fails, who else can be asked then. Must not know: which adapter is asked for, what
becomes of an answer. What a server says is untrusted: bounded, and told to clients only in the shapes that OpenAI's have.
"""
