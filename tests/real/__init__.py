"""With a real chat model from the Python registry; minutes, so not part of `make test`: `pytest tests/real`."""
