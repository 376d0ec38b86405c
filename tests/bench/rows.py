"""The rows of the benchmark's table."""

import os
import shutil
import statistics
import subprocess
import sys
import time

import inputs
import peers

PARTS = 7
# Megabytes of a component, beyond which there are more of them.
LARGEST = 150
PEERS = "peers"
# Without one there is no card for a Raspberry Pi.
DEVICE_TREE = "files:\n  - {path: boot/dtb/broadcom/bcm2710-rpi-3-b.dtb, contents: a tree}\n"
BLUEPRINT = "kernel:\n  image: {}kernel:1\n  tar: none\n"


class Taken:
    """What a run took: seconds on the clock, seconds of processors."""

    def __init__(self, wall, processor):
        self.wall, self.processor = wall, processor


class Bench:
    def __init__(self, program, peer, folder, megabytes, rounds, only):
        self.program, self.folder, self.rounds, self.only = program, folder, rounds, only
        # The program that is one writer (`peers.rs`), if it is there.
        self.peer = peer
        self.megabytes, self.peaks = megabytes, {}
        # A component is made in memory.
        self.count = max(PARTS, megabytes // LARGEST)
        part = megabytes * 1_000_000 // self.count
        self.store = inputs.Store(folder / "store")
        wanted = [(f"part{number}:1", inputs.data, number + 1, part) for number in range(self.count)]
        wanted.append(("part0:2", inputs.changed, 1, part))
        wanted.append(("kernel:1", inputs.kernel, 0, 0))
        if self.wants("10 times the bytes", "10 times the components", "10 times the files"):
            wanted += [(f"tenth{number}:1", inputs.tenth, number + 50, part // 10) for number in range(PARTS)]
            wanted += [(f"small{number}:1", inputs.data, number + 100, 1_000_000) for number in range(70)]
            wanted += [(f"files{count}:1", inputs.many, 5, count) for count in (10_000, 100_000)]
        # Rows against others need only what they make themselves.
        if not only.startswith(PEERS):
            self.store.images(wanted)
        self.components = inputs.components(folder)
        self.uefi = "systemd-stub" in self.components
        parts = [f"part{number}:1" for number in range(PARTS)]
        self.blueprint("bench", parts)
        self.blueprint("other", ["part0:2", *parts[1:]])
        for name, contents in (("file-a", "one"), ("file-b", "two")):
            self.blueprint(name, parts, f"files:\n  - {{path: etc/entry, contents: {contents}}}\n")
        for name, root in (("uncompressed", ", compression: none"), ("lz4", "")):
            more = f"root: {{type: erofs{root}}}\n"
            self.blueprint(f"bench-{name}", parts, more)
            self.blueprint(f"other-{name}", ["part0:2", *parts[1:]], more)

    def wants(self, *names):
        return any(self.only in name for name in names)

    def blueprint(self, name, images, more="", arch="amd64"):
        text = BLUEPRINT.format("arm64-" * (arch == "arm64")) + "init:\n"
        text += "".join(f"  - {image}\n" for image in images) + more
        (self.folder / f"{name}.yml").write_text(text)

    # Commands

    def run(self, command, peak=None, peaks=None, **more):
        start = time.monotonic()
        child = subprocess.Popen(command, cwd=self.folder, stdout=subprocess.DEVNULL, **more)
        _, status, usage = os.wait4(child.pid, 0)
        if status:
            sys.exit(f"{command} ended with {status}")
        if peak:
            peaks = self.peaks if peaks is None else peaks
            peaks[peak] = max(peaks.get(peak, 0), usage.ru_maxrss)
        return Taken(time.monotonic() - start, usage.ru_utime + usage.ru_stime)

    def moby(self, blueprint="bench", format="kernel+initrd", *more, store="store", peak=None, peaks=None, arch="amd64"):
        environment = {"PATH": os.environ["PATH"], "MOBY_CACHE": str(self.folder / store), "HOME": str(self.folder)}
        command = [self.program, "build", "-q", "--arch", arch, "--dir", "out", "--name", "bench", "--format", format]
        return self.run([*command, *more, f"{blueprint}.yml"], peak or format, peaks, env=environment)

    def shell(self, script, *words):
        return self.run(["sh", "-c", script, "sh", *map(str, words)])

    def copy(self, then=""):
        """Copies the outputs as a build writes them: beside what is there, then in its place. (Onto what is there, cp
        would write into memory that the kernel has at hand, which made it four times as fast on a virtual machine.)"""
        outputs = sorted((self.folder / "out").iterdir())
        folder = self.folder / "copy"
        if folder.exists() and {path.name for path in folder.iterdir()} != {path.name for path in outputs}:
            self.gone("copy")
        folder.mkdir(exist_ok=True)
        (self.folder / "new").mkdir()
        command = 'cp "$@" new/' + then + " && mv -f new/* copy/ && rmdir new"
        return self.shell(command, *outputs)

    def synced(self):
        return self.copy(" && sync -d new/*")

    def gone(self, *names):
        for name in names or ["out"]:
            shutil.rmtree(self.folder / name, ignore_errors=True)

    def by_hand(self):
        """Inflating, hashing and compressing the same layers with the usual programs, as parallel as moby."""
        folder = self.folder / "by-hand"
        self.gone("by-hand")
        folder.mkdir()
        one = 'gzip -dc "$0" | tee "$0.tar" | sha256sum; zstd -9 -q -f "$0.tar" -o "$0.zst"; sync -d "$0.zst"'
        names = [f"part{number}:1" for number in range(PARTS)]
        # Copies, not among the blobs of the store.
        paths = [shutil.copy(path, folder) for path in self.store.layers(names)]
        return self.shell(f"printf '%s\\n' \"$@\" | xargs -P {os.cpu_count()} -n 1 sh -c '{one}'", *paths)

    @staticmethod
    def size_on_disk(path):
        """Bytes of a file; of one with holes, what it takes on the disk."""
        found = path.stat()
        return min(found.st_size, found.st_blocks * 512)

    # Rows

    def row(self, what, other, target, turns, before=None):
        """One row: `turns` are what is measured and, if there is one, what it is held against; they take turns."""
        (row,) = self.held_against(what, turns[0], [(other, target, turns[1] if len(turns) > 1 else None)], before)
        return row

    def copies(self, what, target, build, before=None):
        """Two rows: held against `cp`, and against `cp` whose copies are on the disk when it ends, as moby's are."""
        return self.held_against(what, build, [("cp", target, self.copy), ("cp, synced", None, self.synced)], before)

    def held_against(self, what, ours, others, before=None):
        """A row for each of the others: name, target, what is done. All take turns."""
        taken, theirs = [], [[] for _ in others]
        for _ in range(self.rounds):
            if before:
                before()
            taken.append(ours())
            for (*_, turn), times in zip(others, theirs):
                if turn:
                    times.append(turn())
        walls = [one.wall for one in taken]
        for (other, target, _), times in zip(others, theirs):
            row = {"what": what, "other": other, "target": target, "seconds": statistics.median(walls)}
            row |= {"seconds_spread": [min(walls), max(walls)], "figure": row["seconds"]}
            row["processor_seconds"] = statistics.median(one.processor for one in taken)
            if times:
                ratios = [a.wall / b.wall for a, b in zip(taken, times)]
                row["other_seconds"] = statistics.median(one.wall for one in times)
                row["ratio"] = row["figure"] = statistics.median(ratios)
                row["ratio_spread"] = [min(ratios), max(ratios)]
                processors = [a.processor / max(b.processor, 0.001) for a, b in zip(taken, times)]
                row["processor_ratio"] = statistics.median(processors)
            yield row

    def rows(self):
        groups = [self.nothing_changed, self.changes, self.disks, self.cold, self.tens, self.small]
        for group in [*groups, self.memory, self.peers]:
            yield from group()

    def nothing_changed(self):
        formats = ["kernel+initrd", "tar", "squashfs", "erofs"] + ["raw-efi", "qcow2-efi"] * self.uefi
        for format in formats:
            what = f"nothing changed, {format}"
            if self.wants(what):
                self.moby("bench", format)
                yield self.row(what, "", 0.03, [lambda: self.moby("bench", format)])
        self.gone()

    def alternating(self, one, other, format="kernel+initrd"):
        """Builds one blueprint, then the other; all derived data of both is there."""
        self.gone()
        for name in (other, one):
            self.moby(name, format)
        names = [one, other]

        def build():
            names.reverse()
            return self.moby(names[0], format)

        return build

    def changes(self):
        what = "one component of seven changed"
        if self.wants(what):
            yield from self.copies(what, 2, self.alternating("bench", "other"))
            yield self.own_compression()
        what = "one `files:` entry changed"
        if self.wants(what):
            yield from self.copies(what, 1.5, self.alternating("file-a", "file-b"))
        what = "outputs deleted"
        if self.wants(what):
            self.gone()
            self.moby()
            yield from self.copies(what, 1.5, self.moby, self.gone)

    def own_compression(self):
        """The changed component's segments have to be made too: held against its compression alone, and cp."""
        folder = self.folder / "store/derived"
        self.gone("out", "store/derived")
        self.moby("bench")
        known = set(folder.glob("cpio-*/*"))
        (layer,) = self.store.layers(["part0:2"])
        self.shell('gzip -dc "$1" > changed.tar', layer)

        def before():
            self.moby("bench")
            for path in set(folder.glob("cpio-*/*")) - known:
                path.unlink()

        def by_hand():
            compressed = self.shell(f"zstd -9 -q -f -T{os.cpu_count()} changed.tar -o changed.zst")
            copied = self.copy()
            return Taken(compressed.wall + copied.wall, compressed.processor + copied.processor)

        what = "one component of seven changed, first time"
        return self.row(what, "zstd -9 of it, then cp", 2, [lambda: self.moby("other"), by_hand], before)

    def disks(self):
        for name in ("uncompressed", "lz4"):
            for format in ["raw-efi", "qcow2-efi"] * self.uefi:
                what = f"one component changed, {format}, erofs {name}, verity"
                if self.wants(what):
                    build = self.alternating(f"bench-{name}", f"other-{name}", format)
                    yield from self.copies(what, 3 if name == "uncompressed" else None, build)
        self.gone()

    def cold(self):
        what = "cold from a layout"
        tools = "gzip -d, sha256sum, zstd -9"
        if self.wants(what):
            before = lambda: self.gone("out", "store/derived")
            yield self.row(what, tools, None, [self.moby, self.by_hand], before)
        what = "cold from a registry"
        if self.wants(what):
            address = inputs.serve(self.store)
            before = lambda: self.gone("out", "empty")
            mirror = ["--mirror", f"docker.io=http://{address}"]
            pulled = lambda: self.moby("bench", "kernel+initrd", *mirror, store="empty")
            yield self.row(what, tools, 1.3, [pulled, self.by_hand], before)
            if shutil.which("skopeo") and shutil.which("umoci") and os.getuid() == 0:
                yield self.pulled(address, before, mirror)
        self.gone("by-hand")

    def pulled(self, address, before, mirror):
        """To one tar from a registry. The others leave a folder for each component, not merged."""
        tar = lambda: self.moby("bench", "tar", *mirror, store="empty")
        script = """for name in "$@"; do
            skopeo copy -q --src-tls-verify=false docker://$0/library/$name:1 oci:oci:$name
            umoci unpack --image oci:$name unpacked/$name
        done >/dev/null 2>&1"""

        def others():
            self.gone("oci", "unpacked")
            (self.folder / "unpacked").mkdir()
            command = ["sh", "-c", script, address, *(f"part{number}" for number in range(PARTS))]
            return self.run(command, stderr=subprocess.DEVNULL)

        return self.row("cold from a registry, tar", "skopeo copy, umoci unpack", None, [tar, others], before)

    def memory(self):
        """Peaks of every format, from inflated layers; all else is made anew, for that is what takes memory."""
        for line in self.formats():
            format, arch = line.split()[0], "arm64" if line.split()[0].startswith("rpi") else "amd64"
            what = f"memory: {format}"
            if not self.wants(what):
                continue
            missing = self.needs(format) - self.components
            if missing:
                print(f"{what}: left out, this machine has no {', '.join(sorted(missing))}")
                continue
            names = [f"{'arm64-' * (arch == 'arm64')}part{number}:1" for number in range(self.count)]
            self.blueprint("memory", names, DEVICE_TREE * (arch == "arm64"), arch)
            derived = self.folder.glob("store/derived/*")
            self.gone("out", *(path for path in derived if path.name[:6] not in ("layer-", "index-")))
            peaks = {}
            taken = self.moby("memory", format, peak=what, peaks=peaks, arch=arch)
            row = {"what": what, "other": "", "target": 64, "seconds": taken.wall, "processor_seconds": taken.processor}
            row |= {"seconds_spread": [taken.wall] * 2, "peak_kib": peaks[what], "figure": peaks[what] / 1024}
            row["size"] = sum(self.size_on_disk(path) for path in (self.folder / "out").iterdir())
            yield row
        self.gone()

    def formats(self):
        listed = subprocess.run([self.program, "build", "--format", "list"], stdout=subprocess.PIPE, check=True, text=True)
        return listed.stdout.splitlines()[1:]

    def needs(self, format):
        """The loaders that a format is made with."""
        cd, both = format.startswith("iso"), format in ("iso", "raw", "qcow2")
        if format.startswith(("rpi", "kernel+", "tar", "docker", "oci", "pxe")) or format in ("squashfs", "erofs"):
            return set()
        if format.endswith("-bios") or both:
            return {"isolinux" if cd else "syslinux"} | ({"systemd-stub"} if both else set())
        return {"systemd-stub"}

    def peers(self):
        """The writers of images against the programs that others have for it, on the same files."""
        if self.peer:
            yield from peers.Peers(self, self.peer).rows()

    def tens(self):
        """Ten times as much, as a share of ten times the time and, for peaks, of the memory."""
        pairs = {
            "bytes": ([f"tenth{n}:1" for n in range(PARTS)], [f"part{n}:1" for n in range(PARTS)]),
            "components": ([f"small{n}:1" for n in range(PARTS)], [f"small{n}:1" for n in range(70)]),
            "files": (["files10000:1"], ["files100000:1"]),
        }
        for name, (small, large) in pairs.items():
            for format in ("kernel+initrd", "erofs"):
                what = f"10 times the {name}, {format}"
                if not self.wants(what):
                    continue
                self.blueprint("small", small)
                self.blueprint("large", large)
                before = lambda: self.gone("out", "store/derived")
                large_build = lambda: self.moby("large", format, peak=f"{format}, 10 times the {name}")

                def ten_small():
                    before()
                    taken = self.moby("small", format, peak=f"{format}, a tenth of the {name}")
                    return Taken(taken.wall * 10, taken.processor * 10)

                yield self.row(what, "10 times the time of a tenth", 1.2, [large_build, ten_small], before)
        self.gone()

    def small(self):
        environment = {"PATH": os.environ["PATH"], "MOBY_CACHE": str(self.folder / "store"), "HOME": str(self.folder)}
        commands = [("--help", 0.01, ["--help"]), ("--dry-run of 7 components", 0.03, ["build", "--dry-run", "bench.yml"])]
        for what, target, words in commands:
            if self.wants(what):
                yield self.row(what, "", target, [lambda: self.run([self.program, *words], env=environment)])
