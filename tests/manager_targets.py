"""Types of managers in the tests. Apart, since a new process imports it without pytest."""

import os
import sys
import threading

from fastmp import managers
from fastmp.managers import BaseManager, BaseProxy


def fill(d, items, name):
    d[name] = os.getpid()
    items.append(name)
    return len(items)


class Counter:
    def __init__(self, start=0):
        self.value = start

    def next(self):
        self.value += 1
        return self.value

    def fork(self):
        return Counter(self.value)

    def values(self):
        yield from range(self.value)

    def fail(self):
        raise Broken("text", code=5)

    def leave(self):
        sys.exit(3)

    def lock(self):
        return threading.Lock()

    def _hidden(self):
        return "hidden"

    def __len__(self):
        return self.value


def counter_of(numbers):
    return Counter(sum(numbers))


class Broken(Exception):
    """Cannot be loaded: it does not keep all of its arguments."""

    def __init__(self, text, *, code):
        super().__init__(text)


class CounterProxy(BaseProxy):
    _exposed_ = ("next", "__len__")

    def next(self):
        return self._callmethod("next")

    def __len__(self):
        return self._callmethod("__len__")


THE_COUNTER = Counter(100)


def the_counter():
    return THE_COUNTER


class OwnManager(BaseManager):
    pass


OwnManager.register("Counter", Counter, method_to_typeid={"fork": "Forked", "values": "Iterator"})
OwnManager.register("Forked", create_method=False)
OwnManager.register("Limited", Counter, exposed=("_hidden", "next"))
OwnManager.register("Proxied", Counter, CounterProxy)
OwnManager.register("the_counter", the_counter)
OwnManager.register("Sum", counter_of)
OwnManager.register("Summed", Counter, method_to_typeid={"values": "Sum"})
OwnManager.register("Iterator", proxytype=managers.IteratorProxy, create_method=False)
