"""What both ports share: bodies, errors in OpenAI's shape, who asks, serving and stopping.

Knows: HTTP and keys. Must not know: chats, candidates, or which port it is on.
"""
