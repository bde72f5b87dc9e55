#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""rig.py - two emulated hosts joined by a bridge, each running one command

    rig.py [--build build] [--bridge NAME] [--kernel NAME] [--timeout S] [--keep] COMMAND-A [COMMAND-B]

Boots guests a and b under QEMU, without KVM, and runs a shell command in each (one command: in both), in the directory
it is called in: a guest's root is this machine's, read-only, with an overlay in memory (guest/init).  Between the
guests are a network (10.77.0.1 and .2, names a and b) and the bridge:

    ivshmem    one shared memory and doorbells (ivshmem-doorbell of Debian's QEMU)
    gen3 icx spr amd
               a software model of an NTB port in each (ntbrig): Intel Skylake, Ice Lake, Sapphire Rapids; AMD
    none       no bridge

Their kernel is Debian 12's, or with --kernel iommufd a newer one, in which VFIO has a file for each device (image.py).

A command finds RIG_ME (a or b), RIG_PEER, RIG_BRIDGE, RIG_BUILD, RIG_LIFE (1: the guest's first) and the directory
/out, which guests and host share; guest/lib.sh has what guest scripts need beside that.  Consoles go to standard
output, each line with its guest before it.
Exit status: 0 if both commands ended with 0, 1 if not, 2 if the rig itself could not work.

What it needs is fetched once by image.py into BUILD/rig.  Root is not needed, but makes it faster: see may_buffer().
The directory of a run, with consoles and /out, is a new one in TMPDIR, and is deleted unless --keep."""

import argparse
import ctypes
import json
import os
import secrets
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

import image

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
MODELS = ("gen3", "icx", "spr", "amd")
BRIDGES = ("ivshmem", *MODELS, "none")
GUESTS = ("a", "b")
KERNELS = ("kernel", "iommufd")     # parts of image.py
# Loaded by init, before it can see any file of the host; the rest comes from there.  A kernel may have them built in.
FIRST_MODULES = ("virtio_pci", "virtio_net", "9pnet_virtio", "9p", "overlay")
IVSHMEM_BYTES, IVSHMEM_VECTORS = 64 << 20, 4
SO_SNDBUFFORCE, POSTED_BYTES = 32, 256 << 20


class Failed(Exception):
    """The rig itself cannot work; the text says what is missing."""


def need(path, how):
    if not os.path.exists(path):
        raise Failed(f"{path} is missing: {how}")
    return path


def modules_part(model, kernel):
    """The part of image.py with the modules: Linux' NTB drivers are one of their own for Debian 12's kernel."""
    return "ntb" if model and kernel == "kernel" else kernel


def parts(bridge, kernel="kernel"):
    """What image.py must have made for a bridge; busybox is in the part "kernel"."""
    model = bridge in MODELS
    return ("kernel", "qemu-vu" if model else "qemu", modules_part(model, kernel))


def die_with_parent():
    """In a child: no guest outlives the rig, however that ends."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)      # PR_SET_PDEATHSIG


def spawn(argv, **kwargs):
    return subprocess.Popen(argv, preexec_fn=die_with_parent, **kwargs)


def may_buffer():
    """May we have a socket buffer for all that a guest posts (ntbpost.c)?  Root may."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as s:
        try:
            s.setsockopt(socket.SOL_SOCKET, SO_SNDBUFFORCE, POSTED_BYTES)
        except PermissionError:
            return False
    return True


def stop(process):
    if process and process.poll() is None:
        process.kill()
    if process:
        process.wait()


def cpio(entries):
    """An initramfs; entries are (name, mode, bytes).  Format: Linux, driver-api/early-userspace, "newc"."""
    out = bytearray()
    for inode, (name, mode, data) in enumerate([*entries, ("TRAILER!!!", 0, b"")], 1):
        fields = (inode, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(name) + 1, 0)
        out += b"070701" + b"".join(b"%08x" % f for f in fields) + name.encode() + b"\0"
        out += b"\0" * (-len(out) % 4) + data
        out += b"\0" * (-len(out) % 4)
    return bytes(out)


class Image:
    """What image.py has made, and what of it a QEMU is started with."""

    def __init__(self, build, model, kernel):
        self.folder = os.path.abspath(f"{build}/rig")
        self.qemu_root = f"{self.folder}/{'qemu-vu' if model else 'qemu'}"
        need(f"{self.qemu_root}/.done", "make rig fetches it (test/rig/image.py)")
        self.vmlinux = need(f"{self.folder}/{kernel}/vmlinux", "make rig fetches it (test/rig/image.py)")
        with open(f"{self.folder}/{kernel}/release") as f:
            self.release = f.read().strip()
        self.modules = need(f"{self.folder}/{modules_part(model, kernel)}/lib/modules/{self.release}",
                            "make rig builds it (test/rig/image.py)")
        khz = subprocess.run(need(f"{self.folder}/tsckhz", "make rig-programs"), check=True, stdout=subprocess.PIPE)
        self.tsc_khz = int(khz.stdout)

    def qemu(self, preload=()):
        """The command line of QEMU up to its options: of its own release, by that release's dynamic loader."""
        root = self.qemu_root
        loader = [p for p in (f"{root}/lib64/ld-linux-x86-64.so.2", f"{root}/usr/lib64/ld-linux-x86-64.so.2")
                  if os.path.exists(p)]
        libs = ":".join(f"{root}/{d}/x86_64-linux-gnu" for d in ("lib", "usr/lib"))
        data = [o for d in ("qemu", "seabios") for o in ("-L", f"{root}/usr/share/{d}")]
        extra = ["--preload", ":".join(preload)] if preload else []
        return [loader[0], "--library-path", libs, *extra, f"{root}/usr/bin/qemu-system-x86_64", *data]

    def qemu_env(self):
        return {**os.environ, "QEMU_MODULE_DIR": f"{self.qemu_root}/usr/lib/x86_64-linux-gnu/qemu"}

    def initramfs(self):
        with open(f"{self.modules}/modules.dep") as f:
            needs = {line.split(":")[0]: line.split(":")[1].split() for line in f}
        with open(f"{self.modules}/modules.builtin") as f:
            inside = {image.module_name(line.strip()) for line in f}
        order = []
        for name in FIRST_MODULES:
            if name in inside:
                continue
            for module in [*reversed(needs[name + ".ko"]), name + ".ko"]:
                if module not in order:
                    order.append(module)

        def content(path):
            with open(path, "rb") as f:
                return f.read()

        folders = [(d, 0o40755, b"") for d in ("bin", "dev", "proc", "sys", "modules")]
        return cpio([*folders,
                     ("init", 0o100755, content(f"{HERE}/guest/init")),
                     ("bin/busybox", 0o100755, content(f"{self.folder}/kernel/busybox")),
                     ("modules/order", 0o100644, "".join(m + "\n" for m in order).encode()),
                     *((f"modules/{m}", 0o100644, content(f"{self.modules}/{m}")) for m in order)])


class Guest:
    """One QEMU.  Its console is read by a thread, kept, and shown as it comes if asked for."""

    def __init__(self, rig, name):
        self.rig, self.name = rig, name
        self.process, self.reader, self.lines, self.status = None, None, [], None
        self.changed = threading.Condition()
        self.token, self.life = None, 0

    def start(self, command):
        rig, number = self.rig, GUESTS.index(self.name)
        peer = GUESTS[1 - number]
        self.token, self.status, self.lines = secrets.token_hex(4), None, []
        self.life += 1
        env = {"RIG_PEER": peer, "RIG_LIFE": str(self.life), "RIG_BRIDGE": rig.bridge,
               "RIG_BUILD": rig.build, "RIG_DIR": HERE, **rig.env}
        with open(f"{rig.out}/{self.name}.sh", "w") as f:
            f.writelines(f"export {k}={shlex.quote(v)}\n" for k, v in env.items())
            f.write(f"cd {shlex.quote(rig.cwd)} || exit 125\n{command}\n")
        append = " ".join(("console=ttyS0 quiet panic=-1 no_timer_check tsc=reliable",
                           f"tsc_early_khz={rig.image.tsc_khz}", f"intel_iommu={'on' if rig.iommu else 'off'}",
                           f"rig.me={self.name} rig.token={self.token} rig.modules={rig.image.modules}"))
        net = f"{rig.folder}/net"
        argv = [*rig.image.qemu(rig.preload), "-accel", "tcg,thread=multi", "-cpu", "max",
                *rig.memory_options(),
                "-nodefaults", *([] if rig.reboots else ["-no-reboot"]), "-display", "none", "-serial", "stdio",
                "-kernel", rig.image.vmlinux, "-initrd", f"{rig.folder}/initramfs", "-append", append,
                "-netdev", f"dgram,id=n0,local.type=unix,local.path={net}{self.name},"
                           f"remote.type=unix,remote.path={net}{peer}",
                "-device", f"virtio-net-pci,netdev=n0,mac=52:54:00:00:00:0{number + 1},romfile=",
                "-virtfs", "local,path=/,mount_tag=root,security_model=none,readonly=on,multidevs=remap",
                "-virtfs", f"local,path={rig.out},mount_tag=out,security_model=none,multidevs=remap"]
        if rig.iommu:
            argv += ["-device", "intel-iommu,intremap=on,caching-mode=on"]
        argv += rig.device(self.name)
        if os.path.exists(net + self.name):
            os.unlink(net + self.name)      # of this guest's last life
        self.process = spawn(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                             env=rig.qemu_env(self.name))
        self.reader = threading.Thread(target=self.read, args=(self.process, self.token), daemon=True)
        self.reader.start()

    def read(self, process, token):
        marker = f"RIG-EXIT {token} "
        with open(f"{self.rig.folder}/{self.name}.log", "a", buffering=1, errors="replace") as log:
            for raw in process.stdout:
                line = raw.decode(errors="replace").rstrip("\r\n")
                with self.changed:
                    if line.startswith(marker):
                        self.status = int(line[len(marker):])
                    elif line or (self.lines and self.lines[-1]):
                        self.lines.append(line)
                        log.write(line + "\n")
                        if self.rig.show:
                            print(f"{self.name}| {line}", flush=True)
                    self.changed.notify_all()
        with self.changed:
            if self.status is None and process is self.process:
                self.status = -1            # QEMU ended first
            self.changed.notify_all()

    def wait(self, deadline):
        """Status of the command; None: not by then.  -1: the guest ended without one."""
        with self.changed:
            self.changed.wait_for(lambda: self.status is not None, max(0, deadline - time.monotonic()))
            return self.status

    def wait_line(self, text, deadline):
        """Until the console has shown a line with this text.  False: not by then, or the guest ended."""
        def shown():
            return any(text in line for line in self.lines)

        with self.changed:
            self.changed.wait_for(lambda: shown() or self.status is not None, max(0, deadline - time.monotonic()))
            return shown()

    def kill(self):
        """Power off without warning.  What the console said until then has been read on return."""
        stop(self.process)
        if self.reader:
            self.reader.join()


class Rig:
    """Both guests and what is between them, in a directory of their own.

        with Rig("build", "icx") as rig:
            result = rig.run("true", "true", timeout=60)

    @iommu: guests have an IOMMU, which VFIO wants.  Of a model: @ioat: a copy engine in each guest, too; @remap:
    windows are memory, fast, but no fault can strike a store; @queued: QEMU gathers posted stores; @window: sizes of
    BAR2 and BAR4, as ntbrig takes them; @trace: all accesses into the file trace.  @reboots: a guest that resets itself
    boots again, where QEMU otherwise ends.  @numa: half of the memory, a second CPU and the model's functions are on
    another node.  @kernel: which one, of KERNELS.  @env: for the commands."""

    def __init__(self, build, bridge, show=False, keep=False, iommu=True, memory=512, env=None, ioat=False, remap=False,
                 queued=False, window="1m", trace=False, reboots=False, numa=False, kernel="kernel",
                 model_options=()):
        if bridge not in BRIDGES:
            raise Failed(f"no bridge {bridge}; there are {' '.join(BRIDGES)}")
        self.bridge, self.show, self.keep, self.iommu, self.memory = bridge, show, keep, iommu, memory
        self.ioat, self.remap, self.queued, self.window, self.trace = ioat, remap, queued, window, trace
        self.reboots, self.numa = reboots, numa
        self.build, self.env, self.model_options = os.path.abspath(build), env or {}, model_options
        self.cwd = os.getcwd()
        self.model = bridge in MODELS
        self.image = Image(self.build, self.model, kernel)
        # Without a buffer for what is posted QEMU waits for the end of each store, which takes 20 times as long
        self.posted = may_buffer()
        self.preload = [need(f"{self.build}/rig/{name}", "make rig-programs")
                        for name, wanted in (("ntbwin.so", remap), ("ntbpost.so", self.model and self.posted)) if wanted]
        self.folder = tempfile.mkdtemp(prefix="rig.")
        if len(self.folder) > 80:       # sun_path has 108 bytes
            os.rmdir(self.folder)
            raise Failed(f"{self.folder}: too long for the sockets in it; set TMPDIR to something shorter")
        os.chmod(self.folder, 0o755)
        self.out = f"{self.folder}/out"
        self.server = None
        self.guests = {name: Guest(self, name) for name in GUESTS}

    def __enter__(self):
        try:
            os.mkdir(self.out)
            with open(f"{self.folder}/initramfs", "wb") as f:
                f.write(self.image.initramfs())
            self.start_server()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(self, *_):
        for guest in self.guests.values():
            guest.kill()
        stop(self.server)
        if self.keep:
            print(f"rig: consoles and /out are in {self.folder}", flush=True)
        else:
            shutil.rmtree(self.folder, ignore_errors=True)

    def start_server(self):
        """What stands between the guests; it must be there before they are."""
        if self.bridge == "none":
            return
        if self.model:
            argv = [need(f"{self.build}/rig/ntbrig", "make rig-programs"), "--family", self.bridge,
                    "--window", self.window, "--control", f"{self.folder}/control", *self.model_options]
            argv += ["--remap"] if self.remap else []
            argv += ["--trace", f"{self.folder}/trace"] if self.trace else []
            argv += [self.socket(kind, name) for kind in ("ntb", "ioat")[:2 if self.ioat else 1] for name in GUESTS]
        else:
            argv = [need(f"{self.build}/rig/ivserver", "make rig-programs"), f"{self.folder}/iv", str(IVSHMEM_BYTES),
                    str(IVSHMEM_VECTORS)]
        with open(f"{self.folder}/server.log", "w") as log:
            self.server = spawn(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log)
        if not self.server.stdout.readline().endswith(b"ready\n"):
            with open(f"{self.folder}/server.log") as f:
                raise Failed(f"{argv[0]} did not start: {f.read()}")

    def socket(self, kind, name):
        return f"{self.folder}/{kind}.{name}"

    def server_problem(self):
        """Why the server is not as it should be at the end of a run, or None."""
        if not self.server or self.server.poll() is None:
            return None
        return f"the server ended before its guests, status {self.server.returncode}"

    def control(self, command):
        """One command to the model, such as "link down"; what it answers after "ok"."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as s:
            s.settimeout(10)
            s.connect(f"{self.folder}/control")
            with s.makefile("rw") as f:
                f.write(command + "\n")
                f.flush()
                answer = f.readline().strip()
        if not answer.startswith("ok"):
            raise Failed(f"ntbrig, {command}: {answer}")
        return answer[2:].strip()

    def memory_options(self):
        """QEMU options of CPUs and memory."""
        def memory(ident, size):
            return ["-object", f"memory-backend-memfd,id={ident},size={size}M,share=on"]

        # Another CPU must be possible, or TCG does without the atomics and fences of the one (README.md)
        if not self.numa:
            return ["-smp", "1,maxcpus=2", "-machine", "q35,memory-backend=mem", *memory("mem", self.memory),
                    "-m", f"{self.memory}M"]
        return ["-smp", "2,sockets=2,cores=1", "-machine", "q35", "-m", f"{self.memory}M",
                *(o for n in range(2) for o in (*memory(f"mem{n}", self.memory // 2),
                                                "-numa", f"node,nodeid={n},cpus={n},memdev=mem{n}"))]

    def device(self, name):
        """QEMU options of the bridge's end in a guest."""
        if self.bridge == "none":
            return []
        if not self.model:
            return ["-chardev", f"socket,id=iv,path={self.folder}/iv",
                    "-device", f"ivshmem-doorbell,vectors={IVSHMEM_VECTORS},chardev=iv,addr=5"]
        options = ["-device", "pxb-pcie,id=far,bus_nr=64,numa_node=1"] if self.numa else []
        for number, kind in enumerate(("ntb", "ioat")[:2 if self.ioat else 1], 1):
            # Behind a root port: directly on the root complex QEMU turns it into an integrated endpoint without a link.
            options += ["-device", f"pcie-root-port,id=rp{number},slot={number},chassis={number}{',bus=far' if self.numa else ''}",
                        "-device", json.dumps({"driver": "vfio-user-pci", "bus": f"rp{number}",
                                               "x-send-queued": self.queued and kind == "ntb",
                                               "x-no-posted-writes": not self.posted,
                                               "socket": {"type": "unix", "path": self.socket(kind, name)}})]
        return options

    def qemu_env(self, name):
        env = {**self.image.qemu_env(),
               "NTBPOST": f"{POSTED_BYTES}:{self.socket('ntb', name)}:{self.socket('ioat', name)}"}
        return {**env, "NTBWIN": self.socket("ntb", name) + ".win"} if self.remap else env

    def start(self, name, command):
        self.guests[name].start(command)

    def wait(self, timeout):
        """Until both commands have ended, or one has failed and the other did not end soon after."""
        deadline = time.monotonic() + timeout
        pending = list(GUESTS)
        while pending and time.monotonic() < deadline:
            for name in list(pending):
                status = self.guests[name].wait(min(deadline, time.monotonic() + 0.2))
                if status is not None:
                    pending.remove(name)
                    if status != 0:
                        deadline = min(deadline, time.monotonic() + 10)
        return {name: self.guests[name].status for name in GUESTS}

    def run(self, command_a, command_b, timeout):
        self.start("a", command_a)
        self.start("b", command_b)
        return self.wait(timeout)


def describe(name, status):
    if status is None:
        return f"guest {name}: out of time"
    if status < 0:
        return f"guest {name}: ended without saying how its command did"
    return f"guest {name}: exit status {status}"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", default="build", help="build directory (build)")
    parser.add_argument("--bridge", default="ivshmem", choices=BRIDGES)
    parser.add_argument("--kernel", default="kernel", choices=KERNELS, help="of the guests (kernel: Debian 12's)")
    parser.add_argument("--no-iommu", action="store_true", help="guests without an IOMMU: no VFIO, but faster drivers")
    parser.add_argument("--ioat", action="store_true", help="of a model: a copy engine in each guest, too")
    parser.add_argument("--remap", action="store_true", help="of a model: windows are memory, seen by no fault")
    parser.add_argument("--trace", action="store_true", help="of a model: all accesses to registers; implies --keep")
    parser.add_argument("--memory", type=int, default=512, metavar="MB", help="of each guest (512)")
    parser.add_argument("--timeout", type=int, default=120, metavar="S", help="for everything together (120)")
    parser.add_argument("--keep", action="store_true", help="leave consoles and /out behind")
    parser.add_argument("command_a", metavar="COMMAND-A")
    parser.add_argument("command_b", metavar="COMMAND-B", nargs="?")
    args = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(2))
    try:
        image.make(f"{args.build}/rig", parts(args.bridge, args.kernel))
        with Rig(args.build, args.bridge, show=True, keep=args.keep or args.trace, iommu=not args.no_iommu,
                 memory=args.memory, ioat=args.ioat, remap=args.remap, trace=args.trace,
                 kernel=args.kernel) as rig:
            result = rig.run(args.command_a, args.command_b or args.command_a, args.timeout)
    except (Failed, image.Failed) as e:
        print(f"rig: {e}", file=sys.stderr)
        sys.exit(2)
    for name, status in result.items():
        print(describe(name, status), flush=True)
    sys.exit(0 if all(s == 0 for s in result.values()) else 1)


if __name__ == "__main__":
    main()
