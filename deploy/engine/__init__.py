"""Where replies come from: the port that every engine fits; one in this process, any server, vLLM with adapters.

Knows: models, adapters on disk, who is to serve, how engines are asked over HTTP. Must not know: the gateway's own HTTP,
tenants, events. Whatever is wrong with an adapter or a server, what serves goes on serving.
"""
