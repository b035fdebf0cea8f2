"""The launcher on an imitated machine: apt, dpkg, sudo, CMake and Ninja are stubs in PATH.

What it does on real machines is for tests/fresh-machine.sh; here are its decisions.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
DEBIAN_PYTHON = Path("/usr/bin/python3")

pytestmark = pytest.mark.skipif(
    not DEBIAN_PYTHON.exists(), reason="the launcher insists on /usr/bin/python3, which is absent"
)

STUBS = {
    # Prints what the file "installed" lists, as dpkg-query would.
    "dpkg-query": 'sed "s/^/installed /" "$STATE/installed"',
    "apt-cache": """
        [ "$1" != show ] || { echo "Depends: linux-image-6.1.0-1-amd64 (= 6.1.1-1)"; exit; }
        grep -qx "$2" "$STATE/unknown" || printf '%s:\\n  x\\n  Candidate: 1.0\\n' "$2"
    """,
    "apt-get": """
        echo "apt-get $*" >>"$STATE/calls"
        case " $* " in
        *" install "*) ;;
        *" download "*)
            [ ! -e "$STATE/offline" ] || exit 100
            shift 2; for name; do touch "${name}_1.0_amd64.deb"; done; exit ;;
        *) [ ! -e "$STATE/offline" ]; exit ;;
        esac
        [ ! -e "$STATE/offline" ] || { echo "E: cannot reach the mirror"; exit 100; }
        for word; do case $word in -*|install|DPkg*) ;; *) echo "$word" ;; esac
        done >>"$STATE/installed" """,
    # Unpacks a program that runs, a kernel with its modules, or the version.
    "dpkg-deb": """
        [ "$1" = -x ] || { echo 1.0; exit; }
        case $2 in *linux-image*)
            mkdir -p "$3/boot" "$3/lib/modules/6.1.0-1/kernel/sound"
            touch "$3/boot/vmlinuz-6.1.0-1" ;;
        esac
        mkdir -p "$3/usr/sbin"
        for name in nginx haproxy; do
            printf '#!/bin/sh\n' >"$3/usr/sbin/$name"; chmod +x "$3/usr/sbin/$name"
        done """,
    "depmod": 'echo "depmod $*" >>"$STATE/calls"; touch "$2/lib/modules/$3/modules.dep"',
    "node": "exit 0",
    "npm": """
        echo "npm $*" >>"$STATE/calls"
        [ ! -e "$STATE/offline" ] || { echo "npm error network"; exit 1; }
        mkdir -p node_modules/.bin; printf '#!/bin/sh\n' >node_modules/.bin/piping-server
        chmod +x node_modules/.bin/piping-server """,
    "sudo": """
        echo "sudo $*" >>"$STATE/calls"
        [ ! -e "$STATE/no-sudo" ] || exit 1
        [ "$1" = -n ] && exit 0
        exec "$@" """,
    "cmake": """
        [ ! -e "$STATE/broken" ] || { echo "CMake Error: no liburing"; exit 1; }
        echo "cmake $*" >>"$STATE/calls"; mkdir -p "$TREE/build" """,
    "ninja": """
        echo "[0/2] Re-checking globbed directories..."
        [ ! -e "$STATE/changed" ] || { echo "[1/1] Building C object"; exit; }
        echo "ninja: no work to do." """,
    "cc": "echo cc 1.0",
}

MAIN = "import sys; print('harness', *sys.argv[1:]); print([p for p in sys.path if not p])"


class Tree:
    """A copy of the launcher beside a harness that only prints its arguments."""

    def __init__(self, top: Path) -> None:
        """Everything is installed and set up, but the C programs are not built yet."""
        self.programs = "/usr/bin:/bin"
        self.path, self.state, self.stubs = top / "tree", top / "state", top / "bin"
        for directory in (self.state, self.stubs, self.path / "harness" / "iolab"):
            directory.mkdir(parents=True)
        shutil.copy(ROOT / "iolab", self.path)
        shutil.copytree(ROOT / "setup", self.path / "setup")
        (self.path / "harness" / "iolab" / "__main__.py").write_text(MAIN)
        for name, body in STUBS.items():
            (self.stubs / name).write_text(f"#!/bin/sh\n{body}\n")
            (self.stubs / name).chmod(0o755)
        (self.state / "unknown").touch()
        self.install(*(name for names in package_lines() for name in names))
        self._stamp_python()
        for name, stamp in self.peer_stamps().items():
            (self.path / ".cache" / name).mkdir(parents=True)
            (self.path / ".cache" / name / "stamp").write_text(f"{stamp}\n")
        guest = self.path / ".cache" / "guest"
        guest.mkdir()
        (guest / "stamp").write_text(f"2 on {sha256(Path('/etc/os-release'))}\n")

    def install(self, *names: str) -> None:
        """Makes dpkg-query list exactly these."""
        (self.state / "installed").write_text("".join(f"{name}\n" for name in names))

    def remove(self, *names: str) -> None:
        """Takes packages off the list of installed ones."""
        kept = (self.state / "installed").read_text().split()
        self.install(*(name for name in kept if name not in names))

    def calls(self) -> list[str]:
        """Command lines the stubs were called with."""
        file = self.state / "calls"
        return file.read_text().splitlines() if file.exists() else []

    def _stamp_python(self) -> None:
        python = self.path / ".venv" / "bin" / "python"
        python.parent.mkdir(parents=True)
        python.symlink_to(DEBIAN_PYTHON)
        version = subprocess.check_output(
            [DEBIAN_PYTHON, "-c", "import platform; print(platform.python_version())"], text=True
        ).strip()
        locks = {"runtime": "requirements", "development": "requirements-dev",
                 "parquet": "requirements-parquet"}  # fmt: skip
        for stamp, lock in locks.items():
            digest = sha256(self.path / "setup" / f"{lock}.txt")
            (self.path / ".venv" / stamp).write_text(f"{version}-{digest}\n")

    def peer_stamps(self) -> dict[str, str]:
        """What set-up leaves beside each peer that is up to date."""
        release = sha256(Path("/etc/os-release"))
        locks = b"".join(
            (self.path / "setup" / "piping-server" / name).read_bytes()
            for name in ("package-lock.json", "package.json")
        )
        return {
            "nginx": f"nginx libnginx-mod-stream on {release}",
            "haproxy": f"haproxy on {release}",
            "piping-server": hashlib.sha256(locks).hexdigest(),
        }

    def peer_file(self, path: str) -> Path:
        """A file below .cache."""
        return self.path / ".cache" / path

    def environment(self, **extra: str) -> dict[str, str]:
        """PATH with the stubs first, and nothing of the caller's."""
        path = f"{self.stubs}:{self.programs}"
        return {"PATH": path, "STATE": str(self.state), "TREE": str(self.path), **extra}

    def run(self, *words: str, **extra: str) -> subprocess.CompletedProcess[str]:
        """Starts the launcher and waits for its end."""
        return subprocess.run(
            [self.path / "iolab", *words],
            env=self.environment(**extra),
            cwd=self.path.parent,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
        )


def sha256(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def package_lines() -> list[list[str]]:
    """Alternatives of each line of the package list."""
    lines = (ROOT / "setup" / "packages.txt").read_text().splitlines()
    words = [line.split("#")[0].split() for line in lines]
    return [line[1].split("|") for line in words if line]


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    return Tree(tmp_path)


@pytest.fixture
def bare(tree: Tree) -> Tree:
    """A tree on a machine without npm, whatever this one has in /usr/bin."""
    programs = tree.state / "programs"
    programs.mkdir()
    for directory in (Path("/bin"), Path("/usr/bin")):
        for program in directory.iterdir():
            if program.name not in ("node", "npm") and not (programs / program.name).exists():
                (programs / program.name).symlink_to(program)
    for name in ("node", "npm"):
        (tree.stubs / name).unlink()
    tree.programs = str(programs)
    return tree


def test_first_run_builds_and_second_says_nothing(tree: Tree) -> None:
    first = tree.run("quick", "--seed", "7")
    assert first.returncode == 0, first.stderr
    assert first.stdout.splitlines()[0] == "harness quick --seed 7"
    assert "building the C programs" in first.stderr
    second = tree.run("quick")
    assert (second.returncode, second.stderr) == (0, "")
    assert len([call for call in tree.calls() if " -G Ninja" in call]) == 1


def test_changed_sources_are_announced(tree: Tree) -> None:
    tree.run("setup")
    (tree.state / "changed").touch()
    assert "sources changed\niolab: set-up: build done" in tree.run("setup").stderr


def test_the_callers_directory_is_not_searched_for_modules(tree: Tree) -> None:
    (tree.path.parent / "json.py").write_text("raise SystemExit('imported')")
    assert tree.run("engines").stdout.splitlines() == ["harness engines", "[]"]


def test_help_on_a_bare_tree_sets_nothing_up(tree: Tree) -> None:
    shutil.rmtree(tree.path / ".venv")
    answer = tree.run("--help")
    assert answer.returncode == 0
    assert "usage: ./iolab VERB" in answer.stdout
    assert tree.calls() == []


def test_only_what_is_missing_is_installed(tree: Tree) -> None:
    tree.remove("wrk", "liburing-dev")
    answer = tree.run("quick")
    assert answer.returncode == 0, answer.stderr
    apt = [call for call in tree.calls() if call.startswith("apt-get")]
    assert apt[0].endswith(" update")
    assert apt[1].endswith(" install --no-install-recommends liburing-dev wrk")
    assert len(apt) == 2


def test_an_installed_alternative_counts(tree: Tree) -> None:
    tree.remove("gnuplot-nox", "gnuplot-x11")
    assert tree.run("quick").returncode == 0
    assert not [call for call in tree.calls() if call.startswith("apt-get")]


def test_an_alternative_stands_in_for_a_name_apt_does_not_know(tree: Tree) -> None:
    tree.remove("pkg-config", "pkgconf")
    (tree.state / "unknown").write_text("pkg-config\n")
    assert tree.run("quick").returncode == 0
    assert any(call.endswith("--no-install-recommends pkgconf") for call in tree.calls())


def test_test_packages_are_for_test_only(tree: Tree) -> None:
    tree.remove("libcmocka-dev", "clang")
    tree.run("quick")
    assert not [call for call in tree.calls() if call.startswith("apt-get")]
    tree.run("test")
    assert any(call.endswith("recommends libcmocka-dev clang") for call in tree.calls())


def test_a_needed_package_apt_cannot_install_ends_with_name_and_command(tree: Tree) -> None:
    tree.remove("libnuma-dev")
    (tree.state / "offline").touch()
    answer = tree.run("quick")
    assert answer.returncode == 1
    assert "missing Debian packages: libnuma-dev" in answer.stderr
    assert "apt-get install --no-install-recommends libnuma-dev" in answer.stderr
    assert "E: cannot reach the mirror" in answer.stderr
    assert "harness" not in answer.stdout


def test_a_wanted_package_apt_cannot_install_is_left_out(tree: Tree) -> None:
    tree.remove("wrk")
    (tree.state / "offline").touch()
    answer = tree.run("quick")
    assert answer.returncode == 0
    assert "left out: wrk" in answer.stderr
    assert answer.stdout.startswith("harness quick")


def test_without_privileges_what_is_here_may_suffice(tree: Tree) -> None:
    tree.remove("gcc")
    answer = tree.run("quick", IOLAB_APT="no")
    assert answer.returncode == 0
    assert "for want of privileges: gcc" in answer.stderr
    assert not [call for call in tree.calls() if call.startswith(("apt-get", "sudo"))]


def test_without_privileges_a_failing_step_names_the_packages(tree: Tree) -> None:
    tree.remove("liburing-dev")
    (tree.state / "broken").touch()
    answer = tree.run("quick", IOLAB_APT="no")
    assert answer.returncode == 1
    assert "CMake Error: no liburing" in answer.stderr
    assert "missing Debian packages: liburing-dev" in answer.stderr
    assert "Traceback" not in answer.stderr
    # Of a gate 1 would say that the candidate is slower.
    assert tree.run("gate", "--baseline", "HEAD", IOLAB_APT="no").returncode == 2


@pytest.mark.skipif(os.geteuid() == 0, reason="root needs no sudo")
def test_an_ordinary_user_who_may_not_use_sudo_installs_nothing(tree: Tree) -> None:
    tree.remove("wrk")
    (tree.state / "no-sudo").touch()
    assert tree.run("quick").returncode == 0
    assert not [call for call in tree.calls() if call.startswith("apt-get")]


@pytest.mark.parametrize("peer", ["nginx", "haproxy", "piping-server"])
def test_a_peer_that_cannot_be_fetched_is_left_out_and_the_old_one_stays(
    tree: Tree, peer: str
) -> None:
    tree.peer_file(f"{peer}/stamp").write_text("of another release\n")
    (tree.state / "offline").touch()
    answer = tree.run("quick")
    assert answer.returncode == 0
    assert f"{peer}: left out" in answer.stderr
    assert tree.peer_file(f"{peer}/stamp").read_text() == "of another release\n"
    assert not tree.peer_file(f"{peer}.new").exists()


def test_peers_are_unpacked_once_and_never_installed(tree: Tree) -> None:
    shutil.rmtree(tree.path / ".cache")
    assert tree.run("setup").returncode == 0
    for peer, stamp in tree.peer_stamps().items():
        assert tree.peer_file(f"{peer}/stamp").read_text() == f"{stamp}\n"
    assert tree.peer_file("haproxy/version").read_text() == "1.0\n"
    assert os.access(tree.peer_file("nginx/usr/sbin/nginx"), os.X_OK)
    assert not any(" install " in call for call in tree.calls())
    nr_calls = len(tree.calls())
    assert tree.run("setup").stderr == "iolab: set-up is complete\n"
    assert not [call for call in tree.calls()[nr_calls:] if call.startswith(("apt-get", "npm"))]


def test_packages_of_npm_run_no_scripts_and_stay_in_the_tree(tree: Tree) -> None:
    shutil.rmtree(tree.path / ".cache" / "piping-server")
    tree.run("setup")
    (call,) = [call for call in tree.calls() if call.startswith("npm")]
    assert call.startswith("npm ci --omit=dev --ignore-scripts ")
    assert f" --cache {tree.path}/.cache/" in call
    assert sorted(path.name for path in (tree.path / ".cache" / "piping-server").iterdir()) == [
        "node_modules", "package-lock.json", "package.json", "stamp",
    ]  # fmt: skip


def test_without_npm_its_peer_is_passed_over_in_silence(bare: Tree) -> None:
    shutil.rmtree(bare.path / ".cache" / "piping-server")
    answer = bare.run("quick")
    assert (answer.returncode, "piping-server" in answer.stderr) == (0, False)
    assert not bare.peer_file("piping-server").exists()


def test_node_and_npm_are_installed_only_when_asked_for(bare: Tree) -> None:
    bare.remove("npm", "nodejs")
    bare.run("setup", "--test")
    assert not [call for call in bare.calls() if call.startswith("apt-get")]
    bare.run("setup", "--peers")
    assert any(call.endswith("recommends nodejs npm") for call in bare.calls())


@pytest.mark.parametrize(
    ("words", "asked"),
    [
        (("export", "--format", "parquet", "--output", "x"), True),
        (("export", "last", "--format=parquet"), True),
        (("setup", "--test"), True),
        (("export", "--format", "csv"), False),
        (("export", "parquet-run"), False),
        (("quick",), False),
    ],
)
def test_pyarrow_comes_with_what_needs_it(tree: Tree, words: tuple[str, ...], asked: bool) -> None:
    """Nothing can be installed in this tree: who asks for it ends there, naming the lock."""
    (tree.path / ".venv" / "parquet").unlink()
    answer = tree.run(*words)
    assert (
        "installing pinned Python packages (setup/requirements-parquet.txt)" in answer.stderr
    ) is asked
    assert (answer.returncode != 0) is asked


def test_an_npm_that_is_no_debian_package_is_left_alone(tree: Tree) -> None:
    tree.remove("npm", "nodejs")
    tree.run("setup", "--peers")
    assert not [call for call in tree.calls() if call.startswith("apt-get")]


def test_doctor_does_not_build(tree: Tree) -> None:
    (tree.state / "broken").touch()
    assert tree.run("doctor").stdout.startswith("harness doctor")


def test_a_second_set_up_waits_for_the_first(tree: Tree) -> None:
    with (tree.path / ".cache" / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        launcher = subprocess.Popen(
            [tree.path / "iolab", "setup"],
            env=tree.environment(),
            stderr=subprocess.PIPE,
            text=True,
        )
        assert launcher.stderr is not None
        with launcher.stderr as messages:
            assert "another set-up is running" in messages.readline()
            assert launcher.poll() is None
            fcntl.flock(lock, fcntl.LOCK_UN)
            assert "set-up is complete" in messages.read()
    assert launcher.wait() == 0


def test_the_package_list_is_well_formed() -> None:
    groups = {"build", "harness", "run", "peers", "npm", "guest", "test", "check"}
    text = (ROOT / "setup" / "packages.txt").read_text()
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    for line in lines:
        match = re.fullmatch(r"(\w+) +([a-z0-9.+|-]+)( +!?\d+)?", line)
        assert match, line
        assert match[1] in groups, line


@pytest.mark.parametrize("name", ["requirements.txt", "requirements-dev.txt"])
def test_locks_pin_and_hash_everything_and_name_no_host(name: str) -> None:
    text = (ROOT / "setup" / name).read_text()
    entries = re.split(r"\n(?=\S)", text.strip())
    assert all(re.match(r"[a-z0-9-]+==\S+", entry) for entry in entries)
    assert all("--hash=sha256:" in entry for entry in entries)
    assert "://" not in text


def test_the_development_lock_holds_the_runtime_lock() -> None:
    def pins(name: str) -> set[str]:
        return set(re.findall(r"^\S+==\S+", (ROOT / "setup" / name).read_text(), re.M))

    assert pins("requirements.txt") < pins("requirements-dev.txt")


def test_the_lock_of_npm_pins_and_hashes_everything_and_names_no_registry() -> None:
    directory = ROOT / "setup" / "piping-server"
    wanted = json.loads((directory / "package.json").read_text())["dependencies"]
    assert wanted == {"piping-server": "1.12.9"}
    packages = json.loads((directory / "package-lock.json").read_text())["packages"]
    assert packages.pop("")["dependencies"] == wanted
    assert packages["node_modules/piping-server"]["version"] == "1.12.9"
    for name, package in packages.items():
        assert package["integrity"].startswith("sha512-"), name
        assert "resolved" not in package, name


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a tree to somebody else")
@pytest.mark.parametrize("words", ["tune plan", "--auto-revert tune plan", "quick plan"])
def test_through_sudo_only_tune_stays_root(tree: Tree, words: str) -> None:
    nobody = 65534
    os.chown(tree.path, nobody, -1)
    stub = tree.stubs / "setpriv"
    stub.write_text(
        '#!/bin/sh\necho "setpriv $*" >>"$STATE/calls"\n'
        'while [ "$1" != env ]; do shift; done\nexec "$@"\n'
    )
    stub.chmod(0o755)
    answer = tree.run(*words.split(), SUDO_UID=str(nobody))
    assert answer.returncode == 0, answer.stderr
    (call,) = [call for call in tree.calls() if call.startswith("setpriv")]
    assert f"--reuid {nobody}" in call
    assert call.endswith("tune --help" if "tune" in words else "quick plan")
    assert answer.stdout.splitlines()[0] == f"harness {words}"


def test_the_guest_is_fetched_when_asked_for_and_never_installed(tree: Tree) -> None:
    shutil.rmtree(tree.path / ".cache" / "guest")
    assert tree.run("quick").returncode == 0
    assert not tree.peer_file("guest").exists()
    answer = tree.run("setup", "--guest")
    assert answer.returncode == 0, answer.stderr
    assert "fetching the guest's kernel" in answer.stderr
    modules = tree.peer_file("guest/lib/modules/6.1.0-1")
    assert (modules / "modules.dep").exists()
    assert not (modules / "kernel/sound").exists()
    downloads = [call for call in tree.calls() if " download " in call]
    assert downloads == ["apt-get -q download linux-image-6.1.0-1-amd64 busybox-static irqbalance"]
    assert not [call for call in tree.calls() if " install " in call and "linux-image" in call]
    nr_calls = len(tree.calls())
    assert tree.run("test").returncode == 0
    assert not [call for call in tree.calls()[nr_calls:] if "depmod" in call]


@pytest.mark.parametrize("words", [("guest",), ("tune", "validate", "x"), ("test",)])
def test_verbs_that_need_the_guest_bring_it(tree: Tree, words: tuple[str, ...]) -> None:
    tree.remove("qemu-system-x86")
    shutil.rmtree(tree.path / ".cache" / "guest")
    tree.run("tune", "status")
    assert not [call for call in tree.calls() if " install " in call]
    tree.run(*words)
    assert any(call.endswith("recommends qemu-system-x86") for call in tree.calls())
    assert tree.peer_file("guest/stamp").exists()


def test_a_guest_that_cannot_be_fetched_is_left_out(tree: Tree) -> None:
    shutil.rmtree(tree.path / ".cache" / "guest")
    (tree.state / "offline").touch()
    answer = tree.run("setup", "--guest")
    assert answer.returncode == 0
    assert "guest: left out" in answer.stderr
    assert not tree.peer_file("guest.new").exists()
