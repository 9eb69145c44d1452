"""What a training job says when it can't do what was asked."""


class JobFailed(Exception):
    """An expected failure: one sentence for a person, saying what to do."""
