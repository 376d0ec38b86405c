"""Rows against the programs that others write the same formats with, on the same files.

moby's writers run as a program each (`peers.rs` beside this file), so it is a whole process against a whole process: ours
reads the index of a layer that is in a store and checks every file's digest, the others read a folder. Nobody syncs.
"""

import os
import shutil
import subprocess
import tempfile

import inputs

LABEL = "BENCH"
XORRISO = "xorriso -stdio_sync off -as mkisofs -quiet -R -J -joliet-long -no-pad -V BENCH -o $OUT $TREE"
MKFS_VFAT = "truncate -s $SIZE $OUT && mkfs.vfat -F 32 -n BENCH $OUT && mcopy -s -i $OUT $TREE/* ::"
SQUASHFS = "mksquashfs $TREE $OUT -noappend -quiet -no-progress -no-xattrs -b 256K -processors $CORES"
EROFS = "mkfs.erofs --quiet -x-1 -T1600000000"
CONVERT = "qemu-img convert -f raw -O qcow2"

# What is written; how the other program does; which trees.
BOTH = ("mixed", "many")
FILE_SYSTEMS = [
    ("erofs:none", "mkfs.erofs", f"{EROFS} $OUT $TREE", BOTH),
    # LZ4 as a build does it makes images smaller than mkfs.erofs's fast LZ4, in about its time; its slow one makes
    # smaller ones yet, and is so slow that it gets a small tree.
    ("erofs:lz4", "mkfs.erofs -zlz4", f"{EROFS} -zlz4 $OUT $TREE", BOTH),
    ("erofs:lz4", "mkfs.erofs -zlz4hc,9", f"{EROFS} -zlz4hc,9 $OUT $TREE", ("small",)),
    ("squashfs:zstd:9", "mksquashfs zstd 9", f"{SQUASHFS} -comp zstd -Xcompression-level 9", BOTH),
    ("squashfs:gzip:9", "mksquashfs gzip 9", f"{SQUASHFS} -comp gzip -Xcompression-level 9", BOTH),
    ("iso", "xorriso", XORRISO, BOTH),
    ("fat", "mkfs.vfat, mcopy", MKFS_VFAT, BOTH),
]
CONTAINERS = [
    ("qcow2:none", "qemu-img convert", f"{CONVERT} $RAW $OUT"),
    ("qcow2:zlib", "qemu-img convert -c", f"{CONVERT} -c $RAW $OUT"),
    ("qcow2:zstd", "qemu-img convert -c, zstd", f"{CONVERT} -c -o compression_type=zstd $RAW $OUT"),
]
TOOLS = {"erofs": ["mkfs.erofs"], "squashfs": ["mksquashfs"], "iso": ["xorriso"], "fat": ["mkfs.vfat", "mcopy"],
         "qcow2": ["qemu-img"]}
# Where Debian keeps mkfs.vfat.
PATH = os.environ["PATH"] + ":/usr/sbin:/sbin"


class Peers:
    """What the rows need: layers in a store of their own, folders of the same files, a disk. Made when a row asks."""

    def __init__(self, bench, program):
        self.bench, self.program = bench, program
        self.folder = bench.folder / "peers"
        self.folder.mkdir()
        self.trees, self.raw = {}, None

    def tree(self, name):
        """The digest of a tree's layer, and the folder of its files."""
        if name not in self.trees:
            size = self.bench.megabytes * 1_000_000
            made = {
                "mixed": (inputs.data, 1, size),
                "small": (inputs.data, 2, size // 50),
                "many": (inputs.small_files, 5, 20_000),
            }[name]
            layer, folder = self.folder / f"{name}.tar", self.folder / name
            inputs.apart(inputs.save, layer, *made)
            folder.mkdir()
            self.bench.shell('tar --warning=no-unknown-keyword -xf "$1" -C "$2"', layer, folder)
            words = [self.program, "layer", layer, self.folder / "store"]
            digest = subprocess.run(words, stdout=subprocess.PIPE, check=True, text=True).stdout.strip()
            layer.unlink()
            self.trees[name] = digest, folder
        return self.trees[name]

    def disk(self):
        """A disk that is a root file system, with three times as much that is empty behind it."""
        if self.raw is None:
            digest, _ = self.tree("mixed")
            self.raw = self.folder / "disk.raw"
            self.bench.run([self.program, "erofs:none", self.folder / "store", digest, self.raw])
            os.truncate(self.raw, (self.raw.stat().st_size * 4 + (1 << 20)) >> 20 << 20)
        return self.raw

    def rows(self):
        for format, other, script, trees in FILE_SYSTEMS:
            for tree in trees:
                if self.wanted(format, tree):
                    yield self.file_system(format, tree, other, script)
        for format, other, script in CONTAINERS:
            if self.wanted(format, "disk"):
                yield self.against(format, "disk", other, script, [self.disk()], {"RAW": self.raw})
        self.bench.gone("peers")

    def wanted(self, format, tree):
        missing = [tool for tool in TOOLS[format.split(":")[0]] if not shutil.which(tool, path=PATH)]
        wanted = self.bench.wants(name(format, tree))
        if wanted and missing:
            print(f"{name(format, tree)}: left out, {', '.join(missing)} is not installed")
        return wanted and not missing

    def file_system(self, format, tree, other, script):
        digest, folder = self.tree(tree)
        names = {"TREE": folder}
        if format == "fat":
            names["SIZE"] = self.smallest_volume(digest, script, names)
        return self.against(format, tree, other, script, [self.folder / "store", digest], names)

    def smallest_volume(self, digest, script, names):
        """How large the file must be for the others: as large as ours, or as many times a hundredth more as it takes."""
        out = self.folder / "ours"
        self.bench.run([self.program, "fat", self.folder / "store", digest, out])
        ours = out.stat().st_size
        for hundredths in range(100):
            size = ours + ours * hundredths // 100
            environment = {"PATH": PATH, "OUT": str(self.folder / "theirs"), "SIZE": str(size), "TREE": str(names["TREE"])}
            if not subprocess.run(["sh", "-c", script], env=environment, capture_output=True).returncode:
                return size
            (self.folder / "theirs").unlink(missing_ok=True)
        raise SystemExit("no size lets mcopy copy all files")

    def against(self, format, tree, other, script, words, names):
        what = name(format, tree)
        ours, theirs = self.folder / "ours", self.folder / "theirs"
        names = {"PATH": PATH, "OUT": theirs, "CORES": os.cpu_count()} | names
        environment = {key: str(value) for key, value in names.items()}
        peaks = {}

        def our_turn():
            ours.unlink(missing_ok=True)
            return self.bench.run([self.program, format, *words, ours], what, peaks)

        def their_turn():
            theirs.unlink(missing_ok=True)
            return self.bench.run(["sh", "-c", script], what + ", other", peaks, env=environment, stderr=subprocess.DEVNULL)

        row = self.bench.row(what, other, 1, [our_turn, their_turn])
        row["size"], row["other_size"] = self.bench.size_on_disk(ours), self.bench.size_on_disk(theirs)
        row["size_ratio"] = row["size"] / row["other_size"]
        row["peak_kib"], row["other_peak_kib"] = peaks[what], peaks[what + ", other"]
        for path in (ours, theirs):
            path.unlink()
        return row


def name(format, tree):
    return f"peers: {format}, {tree}"

