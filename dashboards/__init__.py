"""Grafana dashboards and Prometheus alert rules, shipped as package data."""
