"""The public port: chats, feedback, events; each turn durable before its last piece is sent.

Knows: the engine's port, control's routing, the edge, the log's producer. Must not know: candidates, gates, training. Its turns
come back by topic, never by import.
"""
