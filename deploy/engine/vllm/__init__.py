"""vLLM as the engine: replicas that load and unload adapters while they serve.

Knows: what vLLM's HTTP interface answers in which case, and which of its answers are not to be believed. Must not know: who
is to serve, tenants, events.
"""
