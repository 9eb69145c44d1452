"""The admin port: metrics, health, and the same operations as the command line over HTTP.

Knows: decisions, web. Must not know: rules or SQL by itself: every rule is behind `decisions.operations`.
"""
