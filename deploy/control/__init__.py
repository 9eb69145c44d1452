"""What is remembered of decisions: candidates, seals, approvals, rollouts, assignments, keys, trainings, money, history.

Knows: SQL through SQLAlchemy (SQLite or PostgreSQL), the rules' values. Must not know: how anything is decided, HTTP, models.
Each change is stored in one transaction with its entry in the history.
"""
