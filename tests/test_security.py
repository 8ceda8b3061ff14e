"""The statements of docs/security.md, by their numbers. Where the tests run as root other users are real."""

import contextlib
import fcntl
import os
import pickle
import re
import secrets
import socket
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

import fastmp
from fastmp import AuthenticationError, _core, connection, forkserver, reduction, resource_sharer, util
from fastmp.connection import Client, deliver_challenge
from fastmp.forkserver import _forkserver
from fastmp.shared_memory import SharedMemory

DEADLINE = 30
NOBODY = 65534
SPARED = 2000  # this descriptor a stranger keeps

by_another_user = pytest.mark.skipif(os.getuid() != 0, reason="only root can become another user")


class Stranger:
    """A process of another user, which has none of our descriptors, and runs function(*args)."""

    def __init__(self, function, *args):
        reader, writer = os.pipe()
        self._pid = os.fork()
        if self._pid == 0:
            try:
                os.write(writer, pickle.dumps(self._run(writer, function, args)))
            finally:
                os._exit(0)
        os.close(writer)
        self._reader = reader

    @staticmethod
    def _run(writer, function, args):
        try:
            os.closerange(3, writer)
            os.closerange(writer + 1, SPARED)
            os.setgroups([])
            os.setgid(NOBODY)
            os.setuid(NOBODY)
            return True, function(*args)
        except Exception as e:
            return False, e

    def end(self):
        """What it returned, or raised."""
        with open(self._reader, "rb") as file:
            good, value = pickle.load(file)
        os.waitpid(self._pid, 0)
        if not good:
            raise value
        return value


def stranger(function, *args):
    return Stranger(function, *args).end()


def arena():
    """The path of the arena's descriptor in /proc."""
    fastmp.Lock()
    return f"/proc/{os.getpid()}/fd/{_core.arena_fd()}"


# ---- memory ----------------------------------------------------------------------------------------

INHERITED = """
import os
for fd in os.listdir("/proc/self/fd"):
    try:
        print(os.readlink(f"/proc/self/fd/{fd}"))
    except OSError:
        pass
print(open("/proc/self/maps").read())
print(os.environ)
"""


def test_1_other_programs_inherit_nothing():
    assert "memfd:fastmp" in os.readlink(arena())
    done = subprocess.run(
        [sys.executable, "-c", INHERITED], close_fds=False, capture_output=True, text=True, timeout=DEADLINE
    )
    assert done.returncode == 0
    assert "memfd" not in done.stdout


def test_2_the_arena_is_its_users_alone():
    status = os.stat(arena())
    assert stat.S_IMODE(status.st_mode) == 0o600
    assert status.st_uid == os.geteuid()
    assert status.st_nlink == 0  # it has no name


@by_another_user
@pytest.mark.parametrize("flags", [os.O_RDONLY, os.O_RDWR])
def test_3_another_user_cannot_open_the_arena(flags):
    path = arena()
    with pytest.raises(PermissionError):
        stranger(os.open, path, flags)
    with pytest.raises(PermissionError):
        stranger(os.listdir, f"/proc/{os.getpid()}/map_files")


@by_another_user
def test_3_even_where_proc_lets_him():
    """A process that became another user's has the descriptor, and can't open what it is of."""
    arena()
    os.dup2(_core.arena_fd(), SPARED)
    try:
        with pytest.raises(PermissionError):
            stranger(os.open, f"/proc/self/fd/{SPARED}", os.O_RDWR)
    finally:
        os.close(SPARED)


def test_4_nobody_can_resize_the_arena():
    fd = os.open(arena(), os.O_RDWR)
    try:
        seals = fcntl.fcntl(fd, fcntl.F_GET_SEALS)
        assert seals == fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_SEAL
        size = os.fstat(fd).st_size
        for change in 0, size - 1, size + 1:
            with pytest.raises(PermissionError):
                os.ftruncate(fd, change)
        with pytest.raises(PermissionError):
            fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_WRITE)
    finally:
        os.close(fd)


def test_4_the_arena_is_no_part_of_a_core_dump():
    fastmp.Lock()
    mappings = re.split(r"(?m)^(?=[0-9a-f]+-[0-9a-f]+ )", Path("/proc/self/smaps").read_text())
    ours = [mapping for mapping in mappings if "memfd:fastmp" in mapping]
    assert ours
    for mapping in ours:
        assert " dd" in re.search(r"VmFlags:(.*)", mapping)[1]


def test_5_names_in_shared_memory_are_their_users_alone():
    before = set(os.listdir("/dev/shm"))
    shared = SharedMemory(create=True, size=100)
    semlock = _core.SemLock(1, 1, 1, f"/fastmp-{secrets.token_hex(8)}", False)
    try:
        made = set(os.listdir("/dev/shm")) - before
        ours = [name for name in made if name == shared.name.lstrip("/") or name.endswith(semlock.name[1:])]
        assert len(ours) == 2
        for name in ours:
            assert stat.S_IMODE(os.stat(f"/dev/shm/{name}").st_mode) == 0o600
    finally:
        shared.close()
        shared.unlink()
        _core.sem_unlink(semlock.name)


def test_6_the_temporary_folder_is_its_users_alone():
    old = os.umask(0)
    try:
        assert stat.S_IMODE(os.stat(util.get_temp_dir()).st_mode) == 0o700
    finally:
        os.umask(old)


# ---- sockets ---------------------------------------------------------------------------------------

EVERYTHING = """
import socket
import fastmp
from fastmp import connection, reduction

def work(queue, conn):
    queue.put(conn.recv())

if __name__ == "__main__":
    for method in fastmp.get_all_start_methods():
        ctx = fastmp.get_context(method)
        with ctx.Manager() as manager, ctx.Pool(2) as pool, connection.Listener() as listener:
            queue = ctx.Queue()
            reader, writer = ctx.Pipe()
            child = ctx.Process(target=work, args=(queue, reader))
            child.start()
            writer.send(manager.list([1]))
            connection.wait([queue._reader])
            assert queue.get()[:] == [1]
            assert pool.map(abs, [-1, -2]) == [1, 2]
            copy = reduction.loads(reduction.dumps(reader))
            for line in open("/proc/net/unix").readlines()[1:]:
                print(*line.split()[7:8])
            for name in "tcp", "tcp6", "udp", "udp6":
                print(*open(f"/proc/net/{name}").readlines()[1:])
            child.join()
"""


def test_7_nothing_else_listens(tmp_path):
    """Of all addresses in a network namespace of its own."""
    if subprocess.run(["unshare", "--net", "true"], capture_output=True).returncode != 0:
        pytest.skip("a network namespace is not to be had")
    script = tmp_path / "everything.py"
    script.write_text(EVERYTHING)
    done = subprocess.run(
        ["unshare", "--net", sys.executable, script], capture_output=True, text=True, timeout=2 * DEADLINE
    )
    assert done.returncode == 0, done.stderr
    lines = set(done.stdout.splitlines()) - {""}
    labels = {line for line in lines if line.startswith("@fastmp-end-")}
    kinds = {re.sub(r"[0-9a-f]{8,}|\d+", "*", line) for line in lines - labels}
    assert kinds == {"@fastmp-*-*", "@fastmp-bell-*"}
    assert labels


def test_7_a_label_takes_no_visitors():
    reader, writer = fastmp.Pipe()
    with reader, writer, socket.socket(fileno=os.dup(reader.fileno())) as end:
        for kind in socket.SOCK_STREAM, socket.SOCK_DGRAM:
            with socket.socket(socket.AF_UNIX, kind) as sock, pytest.raises(OSError):
                sock.connect(end.getsockname())
        writer.send(1)
        assert reader.recv() == 1


def visit(address, kind=socket.SOCK_STREAM):
    """What a visitor hears who says nothing."""
    with socket.socket(socket.AF_UNIX, kind) as sock:
        sock.settimeout(DEADLINE)
        sock.connect(address)
        return sock.recv(100)


def manager_address(stack):
    return stack.enter_context(fastmp.Manager()).address


def sharer_address(stack):
    stack.callback(resource_sharer.stop, DEADLINE)
    ours, theirs = socket.socketpair()
    with ours, theirs:
        reduction.dumps(theirs)
    return resource_sharer._resource_sharer._listener.address


def forkserver_address(stack):
    forkserver.ensure_running()
    return _forkserver._forkserver_address


@by_another_user
@pytest.mark.parametrize("address_of", [manager_address, sharer_address, forkserver_address])
def test_8_another_user_is_not_listened_to(address_of):
    kind = socket.SOCK_SEQPACKET if address_of is forkserver_address else socket.SOCK_STREAM
    with contextlib.ExitStack() as stack:
        assert stranger(visit, address_of(stack), kind) == b""


@by_another_user
def test_8_a_manager_is_not_left_waiting_for_the_next_client():
    manager = fastmp.Manager()
    server = manager._process
    assert stranger(visit, manager.address) == b""
    manager.shutdown()
    assert server.exitcode == 0  # it was told to end, and not killed


def listen_at(address):
    """Take a name and challenge who comes; what he answers."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.settimeout(DEADLINE)
        listener.bind(address)
        listener.listen()
        sock, _ = listener.accept()
        with sock:
            challenge = connection.CHALLENGE + b"{sha256}" + bytes(40)
            with contextlib.suppress(ConnectionError):
                sock.sendall(len(challenge).to_bytes(4, "big") + challenge)
                return sock.recv(100)


@by_another_user
@pytest.mark.parametrize("key", [b"key", None])
def test_8_another_user_who_took_a_name_hears_nothing(key):
    """That of a listener that has ended: he could use an answer where the same key is asked for."""
    address = connection.arbitrary_address("AF_UNIX")
    thief = Stranger(listen_at, address)
    while True:
        try:
            with pytest.raises(AuthenticationError, match="another user"):
                Client(address, authkey=key)
            break
        except ConnectionRefusedError:  # he has not begun
            os.sched_yield()
    assert not thief.end()


def test_9_the_bell_of_a_queue_hears_no_stranger():
    queue = fastmp.Queue()
    fd = queue._reader.fileno()
    address = socket.socket(fileno=os.dup(fd)).getsockname()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        for said in b"", b"\0", bytes(4), bytes(100):
            sock.sendto(said, address)
    assert connection.wait([queue._reader], 0) == []
    queue.put(1)
    assert connection.wait([queue._reader], DEADLINE) == [queue._reader]
    assert queue.get() == 1


def test_10_nothing_is_unpickled_before_the_proof():
    """In test_hostile_frames.py for the others; at the fork server, as it is here."""
    forkserver.ensure_running()
    with tempfile.TemporaryDirectory() as folder:
        bomb = pickle.dumps(Bomb(f"{folder}/trace"))
        for said in bomb, bytes(forkserver.NONCE_BYTES) + bomb, bytes(forkserver.PROOF_BYTES) + bomb:
            with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as sock:
                sock.settimeout(DEADLINE)
                sock.connect(_forkserver._forkserver_address)
                sock.send(bytes(forkserver.NONCE_BYTES))
                sock.recv(100)
                sock.send(said)
                with contextlib.suppress(ConnectionResetError):
                    assert sock.recv(100) == b""
        assert os.listdir(folder) == []


class Bomb:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (self.path,)


class Script:
    """A peer that says what it was told to."""

    def __init__(self, *lines):
        self.lines = list(lines)
        self.heard = []

    def recv_bytes(self, maxlength):
        self.longest = maxlength
        return self.lines.pop(0)

    def send_bytes(self, message):
        self.heard.append(message)


def test_10_little_is_read_before_the_proof():
    peer = Script(b"{sha256}" + bytes(32))
    with pytest.raises(AuthenticationError):
        deliver_challenge(peer, b"key")
    assert peer.longest == connection.LONGEST_PROOF == 256


@pytest.mark.parametrize("same", [True, False])
def test_11_what_compares_proofs_takes_the_same_time(monkeypatch, same):
    """Whether a proof holds is the word of compare_digest alone."""
    compared = []

    def compare(ours, theirs):
        compared.append((ours, theirs))
        return same

    monkeypatch.setattr(connection, "compare_digest", compare)
    peer = Script(b"{sha256}" + bytes(32))
    with contextlib.nullcontext() if same else pytest.raises(AuthenticationError):
        deliver_challenge(peer, b"key")
    assert [theirs for _, theirs in compared] == [bytes(32)]
    assert "compare_digest(proof" in Path(forkserver.__file__).read_text()
    for module in connection, forkserver:
        assert not re.search(r"(proof|expected|digest)\w* [!=]= ", Path(module.__file__).read_text())


def test_12_no_challenge_comes_again():
    challenges = set()
    for _ in range(100):
        peer = Script(b"{sha256}" + bytes(32))
        with pytest.raises(AuthenticationError):
            deliver_challenge(peer, b"key")
        challenges.add(peer.heard[0])
    assert len(challenges) == 100
    assert {len(challenge) for challenge in challenges} == {len(connection.CHALLENGE) + 8 + 40}


def test_12_the_answer_of_the_fork_server_is_not_one_to_it():
    assert forkserver._prove(b"key", b"server", b"x") != forkserver._prove(b"key", b"client", b"x")


# ---- keys ------------------------------------------------------------------------------------------


def test_14_keys_are_random():
    script = "import fastmp, sys; sys.stdout.write(fastmp.current_process().authkey.hex())"
    keys = {
        subprocess.run([sys.executable, "-c", script], capture_output=True, timeout=DEADLINE).stdout
        for _ in range(3)
    }
    assert len(keys) == 3
    assert {len(key) for key in keys} == {64}
    forkserver.ensure_running()
    assert len(_forkserver._forkserver_authkey) == 32


def what_all_can_see():
    """The command line, the environment, and the keys that must not be in there."""
    seen = Path("/proc/self/cmdline").read_bytes() + Path("/proc/self/environ").read_bytes()
    keys = [bytes(fastmp.current_process().authkey), _forkserver._forkserver_authkey]
    return [
        key
        for key in keys
        if key and (key in seen or key.hex().encode() in seen or repr(key).encode() in seen)
    ]


def tell(conn):
    conn.send((bytes(fastmp.current_process().authkey), what_all_can_see()))


def test_15_keys_are_on_no_command_line(ctx, finish):
    reader, writer = ctx.Pipe(duplex=False)
    child = ctx.Process(target=tell, args=(writer,))
    child.start()
    assert reader.poll(DEADLINE)
    assert reader.recv() == (bytes(fastmp.current_process().authkey), [])
    finish(child)


def test_16_a_key_is_not_pickled():
    for dumps in pickle.dumps, reduction.dumps:
        with pytest.raises(TypeError, match="disallowed for security reasons"):
            dumps(fastmp.current_process().authkey)
        with pytest.raises(TypeError, match="disallowed for security reasons"):
            dumps([{1: fastmp.current_process().authkey}])
    queue = fastmp.Queue()
    with pytest.raises(TypeError, match="disallowed for security reasons"):
        queue.put(fastmp.current_process().authkey)
