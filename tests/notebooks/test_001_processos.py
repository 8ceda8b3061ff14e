"""Notebook 001, "Multiprocessing: processos": a lock, pipes, consumers of a queue, an event, a pool."""

import os
import re

import terminal  # noqa: F401  # for children

import fastmp as multiprocessing
from fastmp import Event, JoinableQueue, Lock, Pipe, Process, Queue

PID = r"pid=(\d+)"


def how_am_i(label, lock):
    with lock:
        print(f"{label}: nome={__name__}, pid={os.getpid()}")


def test_processes_outlive_the_function_that_started_them(printed, finish, finish_all):
    lock = Lock()
    how_am_i("Chamada da função", lock)
    process = Process(target=how_am_i, args=("filho criado", lock))
    process.start()
    finish(process)
    for i in range(5):
        Process(target=how_am_i, args=((f"processo rodando {i}"), lock)).start()
    with lock:
        print("Saida da main thread")
    finish_all()
    lines = printed()
    assert lines[0] == f"Chamada da função: nome={__name__}, pid={os.getpid()}"
    assert lines[1] == f"filho criado: nome={__name__}, pid={process.pid}"
    assert lines.count("Saida da main thread") == 1
    running = sorted(line for line in lines[2:] if line != "Saida da main thread")
    assert len(running) == 5
    pids = set()
    for i, line in enumerate(running):
        pids.add(re.fullmatch(rf"processo rodando {i}: nome={__name__}, {PID}", line)[1])
    assert len(pids) == 5


def sender(pipe):
    pipe.send(["spam", 42, "ovos"])
    pipe.close()


def communicator(pipe):
    pipe.send(dict(name="João", spam=42))
    answer = pipe.recv()
    print("Comunicador recebeu:", sorted(answer), type(answer).__name__)


def test_objects_travel_both_ways_through_a_pipe(printed, finish, finish_all):
    (father_result, son_result) = Pipe()
    Process(target=sender, args=(son_result,)).start()
    first = father_result.recv()
    father_result.close()
    finish_all()

    (father_result, son_result) = Pipe()
    son = Process(target=communicator, args=(son_result,))
    son.start()
    second = father_result.recv()
    father_result.send({x * 2 for x in "spam"})
    finish(son)
    assert first == ["spam", 42, "ovos"]
    assert second == {"name": "João", "spam": 42}
    assert printed() == ["Comunicador recebeu: ['aa', 'mm', 'pp', 'ss'] set"]
    assert son.exitcode == 0


class Consumer(Process):
    def __init__(self, queue_task, queue_result):
        Process.__init__(self)
        self.queue_task = queue_task
        self.queue_result = queue_result

    def run(self):
        process_name = self.name
        while True:
            next_task = self.queue_task.get()
            if next_task is None:
                print(f"{process_name}: Saindo")
                self.queue_task.task_done()
                break
            print(f"{process_name}: {next_task}")
            answer = next_task()
            self.queue_task.task_done()
            self.queue_result.put(answer)


class Task:
    def __init__(self, n1, n2):
        self.n1 = n1
        self.n2 = n2

    def __call__(self):
        return f"{self.n1} * {self.n2} = {self.n1 * self.n2}"

    def __str__(self):
        return f"{self.n1} * {self.n2}"


def test_consumers_empty_a_joinable_queue(printed, finish, last_number):
    first = last_number() + 1
    tasks = JoinableQueue()
    results = Queue()
    consumers = [Consumer(tasks, results) for _ in range(5)]
    for consumer in consumers:
        consumer.start()
    for i in range(5):
        tasks.put(Task(i, i))
    for _ in range(5):
        tasks.put(None)
    tasks.join()
    answers = [results.get(timeout=30) for _ in range(5)]
    finish(*consumers)

    names = [f"Consumer-{first + i}" for i in range(5)]
    assert [consumer.name for consumer in consumers] == names
    assert sorted(answers) == ["0 * 0 = 0", "1 * 1 = 1", "2 * 2 = 4", "3 * 3 = 9", "4 * 4 = 16"]
    lines = printed()
    assert sorted(line for line in lines if "Saindo" in line) == sorted(f"{name}: Saindo" for name in names)
    worked = [line.partition(": ") for line in lines if "Saindo" not in line]
    assert sorted(task for _, _, task in worked) == [f"{i} * {i}" for i in range(5)]
    assert {name for name, _, _ in worked} <= set(names)
    assert tasks.empty() and results.empty()


def wait_for_event(event, waiting):
    print("A espera pelo evento começou!")
    waiting.set()
    event.wait(30)
    print("Espera pelo evento event.is_set():", event.is_set())


def wait_for_event_timeout(event, time):
    print("A espera pelo timeout do evento iniciada!")
    event.wait(time)
    print("Espera pelo timeout do evento event.is_set():", event.is_set())


def test_event_is_seen_by_who_waits_for_ever_and_not_by_who_gives_up(printed, finish):
    event, waiting = Event(), Event()
    process1 = Process(name="block", target=wait_for_event, args=(event, waiting))
    process1.start()
    process2 = Process(name="not-block", target=wait_for_event_timeout, args=(event, 0.1))
    process2.start()
    print("Main: Esperando antes de chamar o Event.set()")
    finish(process2)  # the notebook sleeps longer than the timeout
    assert waiting.wait(30)
    event.set()
    print("Main: Evento está pronto!")
    finish(process1)
    lines = printed()
    assert (process1.name, process2.name) == ("block", "not-block")
    assert sorted(lines[:4]) == [
        "A espera pelo evento começou!",
        "A espera pelo timeout do evento iniciada!",
        "Espera pelo timeout do evento event.is_set(): False",
        "Main: Esperando antes de chamar o Event.set()",
    ]
    assert sorted(lines[4:]) == ["Espera pelo evento event.is_set(): True", "Main: Evento está pronto!"]


def calculate(data):
    return data * 2


def start_process():
    print("Iniciando", multiprocessing.current_process().name)


def test_pool_with_an_initializer(printed, start_method, last_number):
    first = last_number() + 1
    inputs = list(range(10))
    builtin_outputs = map(calculate, inputs)
    pool_size = multiprocessing.cpu_count() * 2
    pool = multiprocessing.Pool(processes=pool_size, initializer=start_process)
    pool_outputs = pool.map(calculate, inputs)
    pool.close()
    pool.join()
    assert pool_outputs == list(builtin_outputs) == [0, 2, 4, 6, 8, 10, 12, 14, 16, 18]
    prefix = {"fork": "Fork", "spawn": "Spawn", "forkserver": "ForkServer"}[start_method]
    names = [f"Iniciando {prefix}PoolWorker-{first + i}" for i in range(pool_size)]
    assert sorted(printed()) == sorted(names)
