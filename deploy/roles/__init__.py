"""Who does the work: worker, trainer, controller and gateway as coroutines, alone, together in one process, or supervised.

Knows: every room below. Must not know: the command line. A role runs until it is told to stop and leaves nothing half done.
"""
