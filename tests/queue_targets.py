"""Queues that tests take apart, so they are classic ones (fastmp/_classic_queue.py)."""

from fastmp import queues


class OwnEnds(queues.Queue):
    def _send(self):
        return self._writer


class OwnJoinableEnds(queues.JoinableQueue):
    def _send(self):
        return self._writer


class OwnSimpleEnds(queues.SimpleQueue):
    def _send(self):
        return self._writer
