"""What both ports share: bodies, errors in OpenAI's shape, who asks, serving and stopping.

Knows: HTTP, keys, and how what is asked of a rule or a store fails. Must not know: chats, decisions, or which port it
is on.
"""
