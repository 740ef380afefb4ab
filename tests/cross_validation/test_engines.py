"""Engines do tasks in order, keep back what a mistake makes impossible, and outlive a process that is killed."""

import os
import re
import signal
import sys
import threading
import time
from functools import partial
from pathlib import Path

import pytest

from ultrarefiner_monai.cross_validation import engines, ray_engine
from ultrarefiner_monai.cross_validation.conduct import make_engine
from ultrarefiner_monai.cross_validation.engines import LocalEngine, Task
from ultrarefiner_monai.cross_validation.ray_engine import RayEngine, _attempt_on_node
from ultrarefiner_monai.errors import DataError


def note(folder, name, seconds=0.0):
    """Leave a file that says where and when this was done."""
    started = time.time()
    time.sleep(seconds)
    words = (started, time.time(), Path.cwd(), os.environ.get("CUDA_VISIBLE_DEVICES"))
    (folder / name).write_text("\n".join(map(str, words)))


def note_node(folder, name):
    """Leave a file that says on which node this was done."""
    import ray

    note(folder, name, 1.0)
    with (folder / name).open("a") as file:
        file.write("\n" + ray.get_runtime_context().get_node_id())


def err(error):
    raise error


def die_at_first(folder, name, times):
    """Be killed the first `times` times, after leaving a line each time."""
    with (folder / name).open("a") as file:
        file.write("here\n")
    if len((folder / name).read_text().splitlines()) <= times:
        os.kill(os.getpid(), signal.SIGKILL)


def nap(folder):
    """Sleep until interrupted, and leave files that say so."""
    (folder / "started").touch()
    try:
        for _ in range(600):  # Ray interrupts between two lines, no sleep
            time.sleep(0.1)
    except KeyboardInterrupt:
        (folder / "interrupted").touch()
        raise


def graph(folder):
    """First two tasks at once, then one, and beside them a chain that a mistake breaks."""
    return [
        Task("first", partial(note, folder, "first", 0.2)),
        Task("second", partial(note, folder, "second", 0.2)),
        Task("wrong", partial(err, SystemExit("no such file")), ("first",)),
        Task("kept back", partial(note, folder, "kept back"), ("second", "wrong")),
        Task("kept back too", partial(note, folder, "kept back too"), ("kept back",)),
        Task("last", partial(note, folder, "last"), ("first", "second")),
    ]


def check_graph(folder, mistakes):
    assert mistakes == dict.fromkeys(("wrong", "kept back", "kept back too"), "no such file")
    assert sorted(path.name for path in folder.iterdir() if " " not in path.name) == ["first", "last", "second"]
    assert not list(folder.glob("kept*"))
    ended = [float((folder / name).read_text().split("\n")[1]) for name in ("first", "second")]
    assert float((folder / "last").read_text().split("\n")[0]) >= max(ended)


@pytest.fixture(scope="module")
def ray():
    """Ray, whose workers import neither this module nor, with the engines, torch."""
    module = pytest.importorskip("ray")
    for needed in (sys.modules[__name__], engines, ray_engine):
        module.cloudpickle.register_pickle_by_value(needed)
    return module


@pytest.fixture(scope="module")
def cluster(ray):
    """Address of a Ray cluster of two nodes with one core and one pretended GPU each."""
    from ray.cluster_utils import Cluster

    node = {"num_cpus": 1, "num_gpus": 1, "object_store_memory": 80 * 1024**2}
    running = Cluster(initialize_head=True, head_node_args={**node, "include_dashboard": False})
    running.add_node(**node)
    yield running.address
    running.shutdown()


def test_local_engine_does_tasks_in_order_and_goes_on_after_a_mistake(tmp_path):
    check_graph(tmp_path, LocalEngine().run(graph(tmp_path)))


def test_local_engine_stops_at_a_fault_or_a_signal(tmp_path):
    for error in (ZeroDivisionError("ours"), SystemExit(143), KeyboardInterrupt()):
        with pytest.raises(type(error)):
            LocalEngine().run([Task("a", partial(err, error)), Task("b", partial(note, tmp_path, "b"))])
    assert not list(tmp_path.iterdir())


def test_ray_engine_of_this_machine_does_the_same_and_tries_again_what_is_killed(ray, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(ray_engine, "RETRIES", 1)
    folder, deaths = tmp_path / "graph", tmp_path / "deaths"
    folder.mkdir()
    deaths.mkdir()
    tasks = [
        *graph(folder),
        Task("killed", partial(die_at_first, deaths, "killed", 1)),
        Task("after killed", partial(note, deaths, "after"), ("killed",)),
        Task("doomed", partial(die_at_first, deaths, "doomed", 99)),
        Task("after doomed", partial(note, deaths, "never"), ("doomed",)),
    ]
    mistakes = RayEngine().run(tasks)
    for name in ("doomed", "after doomed"):
        assert mistakes.pop(name).startswith("doomed: its process died 2 times")
    check_graph(folder, mistakes)
    assert len((deaths / "killed").read_text().splitlines()) == 2
    assert len((deaths / "doomed").read_text().splitlines()) == 2
    assert (deaths / "after").read_text().split("\n")[2] == str(tmp_path)
    assert not (deaths / "never").exists()


def test_tasks_spread_over_the_nodes_of_a_cluster_with_a_gpu_each(cluster, tmp_path):
    names = [f"fold{number}" for number in range(4)]
    tasks = [Task(name, partial(note_node, tmp_path, name), gpu=True) for name in names]
    assert RayEngine(cluster).run(tasks) == {}
    lines = [(tmp_path / name).read_text().split("\n") for name in names]
    assert {line[3] for line in lines} == {"0"}  # each node's only GPU
    assert len({line[4] for line in lines}) == 2
    spans = sorted((float(start), float(end)) for start, end, *_ in lines)
    assert all(later[0] >= earlier[1] for earlier, later in zip(spans, spans[2:], strict=False))  # never three at once


def test_a_fault_of_the_program_is_told_with_its_traceback(cluster):
    with pytest.raises(ZeroDivisionError, match=r"(?s)in err\n.*ours"):
        RayEngine(cluster).run([Task("a", partial(err, ZeroDivisionError("ours")))])


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_the_tasks_and_then_the_run(number, code, cluster, tmp_path):
    def send():
        while not (tmp_path / "started").exists():
            time.sleep(0.05)
        os.kill(os.getpid(), number)

    threading.Thread(target=send).start()
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(SystemExit) as stopped:
        RayEngine(cluster).run([Task("a", partial(nap, tmp_path)), Task("b", partial(note, tmp_path, "b"), ("a",))])
    assert stopped.value.code == code
    assert (tmp_path / "interrupted").exists()
    assert not (tmp_path / "b").exists()
    assert signal.getsignal(signal.SIGINT) is before


def test_a_task_can_be_interrupted_on_a_node_that_ignores_interrupts(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with pytest.raises(KeyboardInterrupt):
            _attempt_on_node(str(tmp_path), {}, partial(signal.raise_signal, signal.SIGINT))
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_working_directory_that_the_nodes_do_not_see_is_a_mistake(cluster, tmp_path, monkeypatch):
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    monkeypatch.setattr(Path, "cwd", lambda: gone.with_name("elsewhere"))
    mistakes = RayEngine(cluster).run([Task("a", partial(note, tmp_path, "a"))])
    assert re.match(r".*/elsewhere: not seen by node .* start where every node can read and write", mistakes["a"])


def test_a_cluster_without_room_for_a_task_is_refused(cluster, tmp_path):
    with pytest.raises(
        DataError, match=r"num_cpus 2: no node .* that many cores and a GPU, found 1 cores and 1 GPUs, 1"
    ):
        RayEngine(cluster, num_cpus=2).run([Task("a", partial(note, tmp_path, "a"))])


def test_an_address_without_a_cluster_is_refused_at_once(ray):
    started = time.monotonic()
    with pytest.raises(DataError, match=r"no Ray cluster at 127.0.0.1:9: .*refused; start one"):
        RayEngine("127.0.0.1:9").run([])
    assert time.monotonic() - started < 60  # Ray itself would try for over ten minutes


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        ("rya", {}, "engine 'rya': expected local or ray"),
        ("local", {"address": "auto"}, "address: only for the engine 'ray'"),
        ("ray", {"num_cpus": 0}, "num_cpus 0: expected a whole number above 0"),
    ],
)
def test_engines_that_cannot_be_are_refused(name, options, said):
    with pytest.raises(DataError, match=re.escape(said)):
        make_engine(name, **options)


def test_an_engine_without_ray_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(DataError, match=r"Ray, which is not installed: pip install 'ultrarefiner-monai\[ray\]'$"):
        make_engine("ray")


def test_local_is_what_no_options_mean():
    assert isinstance(make_engine("local", address=None, num_cpus=None), LocalEngine)
