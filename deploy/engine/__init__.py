"""Where replies come from: the port that every engine fits, the local engine's thread, adapters on it.

Knows: models, adapters on disk, who is to serve. Must not know: HTTP, tenants, events. Whatever is wrong with an adapter, what
serves goes on serving.
"""
