"""Whether a manager is in use. Proxies that outlive it ask, for then there is nothing to give back."""


class State:
    """What has become of a manager; its finalizer and those of its proxies share it."""

    __slots__ = ("value",)
    INITIAL = 0
    STARTED = 1
    SHUTDOWN = 2

    def __init__(self) -> None:
        self.value = State.INITIAL
