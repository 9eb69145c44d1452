"""What may be served, and how everything is started: the composition root.

Knows: every other package. Decides in pure modules (`gate`, `rollout`), remembers in `control`, and acts in thin shells
(`gateway`, `trainer`, `cli`).
"""
