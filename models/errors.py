"""What a training job says when it can't do what was asked, and what is said of a candidate that must not be loaded."""


class JobFailed(Exception):
    """An expected failure: one sentence for a person, saying what to do."""


class Unrenderable(JobFailed):
    """The base's chat template does not take this one conversation."""


class AdapterInvalid(Exception):
    """This candidate must not be loaded; the message says why."""
