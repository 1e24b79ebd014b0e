"""
What can go wrong with a worker process.
"""


class WorkerFailed(Exception):
    """A worker gave no answer; the text may go to a peer."""
